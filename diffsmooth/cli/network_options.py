"""The options of which networks, on which images, that several commands share."""

from typing import Literal

from jsonargparse import ActionYesNo, ArgumentParser

from diffsmooth.lit.data.picture import ExifChoice
from diffsmooth.models.smoothing.purifiers import purifier_kind

STEPS = purifier_kind("multistep").steps
DATASETS = (
    "fashion_mnist, fashion_mnist_sample (shipped), cifar10, imagenet, an .npz file (images uint8 "
    "N,H,W[,C]; labels), or a folder with one folder a class"
)


def add_image_options(parser: ArgumentParser) -> None:
    """Adds the options of where images lie, and how a folder's files become images."""
    add = parser.add_argument
    add("--data_root", type=str, default="data", help="folder of a known dataset")
    add("--image_size", type=int | None, default=None,
        help="of a folder of your own whose images have several sizes: the shorter side is resized "
        "to so many pixels (bilinear, antialiased), then the middle square cut out; noise and "
        "radius are of that size")  # fmt: skip
    add("--exif", type=ExifChoice | None, default=None,
        help="apply or ignore the EXIF orientation that files of such a folder carry")  # fmt: skip


def add_weights_option(parser: ArgumentParser) -> None:
    """Adds --weights."""
    parser.add_argument("--weights", type=Literal["raw", "ema"] | None, default=None,
        help="of a classifier's checkpoint that holds two sets of weights: raw (as trained) or ema "
        "(averaged); by default ema where there are two")  # fmt: skip


def add_purifier_options(parser: ArgumentParser) -> None:
    """Adds the options of the images' place and of the purifier, but for `runs`."""
    add = parser.add_argument
    add_image_options(parser)
    add("--purifier", type=str, default="oneshot",
        help="oneshot: one reverse-diffusion jump; multistep: several steps, a vote being "
        "the answer of most --runs (DensePure); none: plain randomized smoothing; or "
        "package.module:factory of a purifier of your own")  # fmt: skip
    add("--convention", type=str | None, default=None,
        help="how sigma is matched to a timestep: diffsmooth, carlini or densepure; by default "
        "densepure for multistep and diffsmooth for oneshot")  # fmt: skip
    add("--steps", type=int | None, default=None,
        help=f"of multistep: timesteps a run (default: {STEPS})")  # fmt: skip
    add("--pad", type=str, default="none",
        help="none: the diffusion model sees the images at their own size; reflect: padded to its "
        "own, and cropped again")  # fmt: skip
    add("--diffusion", type=str | None, default=None,
        help="checkpoint of the diffusion model; by default the published file's name in "
        "pretrained_models/, then ours in checkpoints/; or package.module:factory of a denoiser of "
        "your own, (noisy, sigma) -> clean images")  # fmt: skip
    add("--unsafe_load", action=ActionYesNo, default=False,
        help="run code that a checkpoint may hold; only for files that you trust")  # fmt: skip


def add_voting_options(parser: ArgumentParser, batch: int, n: int) -> None:
    """Adds those of the purifier, the classifier and its votes, with the command's defaults."""
    add = parser.add_argument
    add("--n", "--N", dest="n", type=int, default=n, help="votes an image (after N0)")
    add("--alpha", type=float, default=0.001, help="failure probability an image, in (0, 1)")
    add("--batch", type=int, default=batch, help="votes a forward pass")
    add("--local_seed", type=int, default=42, help="seed of the local copies' fixed noise")
    add("--seed", type=int, default=0, help="seed of the votes' noise")
    add_purifier_options(parser)
    add("--runs", type=int | None, default=None, help="of multistep: runs a vote (default: 1)")
    add("--arch", type=str | None, default=None,
        help="the classifier's architecture, where its checkpoint does not say: cifar_resnetD "
        "or a timm name")  # fmt: skip
    add("--normalize", type=str, default="auto",
        help="the classifier's input layer: standard, center, none, or MEAN,STD in [0, 1] pixel "
        "units; auto: the checkpoint's, or else the most accurate under noise")  # fmt: skip
    add_weights_option(parser)
    add("--sanity_check", action=ActionYesNo, default=True,
        help="stop before the votes if accuracy is near chance")  # fmt: skip
    add("--noise", type=str, default="numpy",
        help="source of the votes' noise: numpy (the same on every device) or device (made where "
        "the networks run: for GPUs that one CPU core cannot keep up with)")  # fmt: skip
    add("--precision", type=str, default="auto",
        help="float32, tf32 (CUDA), bf16 (layers only), or auto: bf16 where the hardware "
        "has it")  # fmt: skip
