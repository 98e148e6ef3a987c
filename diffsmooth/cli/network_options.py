"""The options of which networks, on which images, that several commands share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, Self, get_args

from jsonargparse import ActionYesNo, ArgumentParser

from diffsmooth.cli.option_checks import check_alpha, check_most, check_noise, check_seed
from diffsmooth.lit.data.picture import ExifChoice
from diffsmooth.models.noise import SourceName
from diffsmooth.models.purifiers import Convention
from diffsmooth.models.weight_sets import SetName
from diffsmooth.stats.errors import UserError

MULTISTEP_STEPS = 10
DATASETS = (
    "fashion_mnist, fashion_mnist_sample (shipped), cifar10, imagenet, an .npz file (images uint8 "
    "N,H,W[,C]; labels), or a folder with one folder a class"
)


@dataclass(frozen=True)
class PurifierOptions:
    """Images and what purifies them, checked; see `add_purifier_options` for their meaning."""

    dataset: str
    data_root: str
    image_size: int | None
    exif: ExifChoice | None
    purifier: str
    convention: str | None
    steps: int | None
    runs: int | None
    pad: str
    diffusion: str | None
    unsafe_load: bool

    def __post_init__(self) -> None:
        self.check_lowest({"steps": 1, "runs": 1, "image_size": 1})
        self.check_word("purifier", ("oneshot", "multistep", "none"))
        if self.convention is not None:
            self.check_word("convention", get_args(Convention))
        self.check_word("pad", ("none", "reflect"))
        # What would not be used is not what its user wanted.
        for name in ("steps", "runs"):
            if getattr(self, name) is not None and self.purifier != "multistep":
                raise UserError(f"{name} is of purifier multistep, not of {self.purifier}")
        if self.purifier == "none" and (self.convention or self.pad != "none"):
            name = "convention" if self.convention else "pad"
            raise UserError(f"{name} has no meaning with purifier none")

    def check_lowest(self, bounds: Mapping[str, int]) -> None:
        """Raises UserError for an option below its bound; None is not given."""
        for name, bound in bounds.items():
            value = getattr(self, name)
            if value is not None and value < bound:
                option = "N" if name == "n" else name
                raise UserError(f"{option} must be at least {bound}, got {value}")

    def check_word(self, name: str, words: Sequence[str]) -> None:
        """Raises UserError for an option that is none of the words."""
        if getattr(self, name) not in words:
            raise UserError(
                f"{name} must be {', '.join(words[:-1])} or {words[-1]}, "
                f"got {getattr(self, name)!r}"
            )

    @property
    def matching(self) -> Convention:
        """--convention, or the purifier's own."""
        default = "densepure" if self.purifier == "multistep" else "diffsmooth"
        return self.convention or default  # type: ignore[return-value]

    @classmethod
    def from_namespace(cls, namespace: Any, **others: Any) -> Self:
        """The options among the parser's values, and those that the command sets itself."""
        names = [field.name for field in fields(cls) if field.name not in others]
        return cls(**{name: getattr(namespace, name) for name in names}, **others)


@dataclass(frozen=True)
class VotingOptions(PurifierOptions):
    """And the classifier, and how it votes; see `add_voting_options`."""

    classifier: str
    sigma: float
    n: int
    alpha: float
    batch: int
    local_seed: int
    seed: int
    arch: str | None
    normalize: str
    weights: SetName | None
    sanity_check: bool
    noise: SourceName
    precision: str

    def __post_init__(self) -> None:
        check_noise("sigma", self.sigma)
        self.check_lowest({"batch": 1, "n": 1})
        check_most("batch", self.batch)
        check_most("n", self.n)
        check_alpha("alpha", self.alpha)
        check_seed("local_seed", self.local_seed)
        self.check_word("noise", get_args(SourceName))
        super().__post_init__()


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
        "the answer of most --runs (DensePure); none: plain randomized smoothing")  # fmt: skip
    add("--convention", type=str | None, default=None,
        help="how sigma is matched to a timestep: diffsmooth, carlini or densepure; by default "
        "densepure for multistep and diffsmooth for oneshot")  # fmt: skip
    add("--steps", type=int | None, default=None,
        help=f"of multistep: timesteps a run (default: {MULTISTEP_STEPS})")  # fmt: skip
    add("--pad", type=str, default="none",
        help="none: the diffusion model sees the images at their own size; reflect: padded to its "
        "own, and cropped again")  # fmt: skip
    add("--diffusion", type=str | None, default=None,
        help="checkpoint of the diffusion model; by default the published file's name in "
        "pretrained_models/, then ours in checkpoints/")  # fmt: skip
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
