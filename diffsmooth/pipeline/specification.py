"""What a command is to do, checked: which networks, on which images, with which votes."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from diffsmooth.lit.data.names import ExifChoice, check_dataset
from diffsmooth.models.checkpoints.file_claims import check_source
from diffsmooth.models.smoothing.purifier_kinds import PURIFIERS, PurifierKind, purifier_kind
from diffsmooth.models.words import (
    IN_FLIGHT,
    Convention,
    Kernels,
    Noise,
    Pad,
)
from diffsmooth.pipeline.option_checks import (
    check_alpha,
    check_local_noise,
    check_logger,
    check_noise,
    check_seed,
)
from diffsmooth.pipeline.option_records import OptionRecord, option, required
from diffsmooth.pipeline.output_checks import check_no_input, check_place, data_files
from diffsmooth.pipeline.plan_specification import PlanOptions
from diffsmooth.runs.names import OutputFiles, Shard
from diffsmooth.shipped import located
from diffsmooth.stats.errors import UserError, option_values
from diffsmooth.stats.registry import check_call, imported, is_code

DATASETS = (
    "fashion_mnist, fashion_mnist_sample (shipped), cifar10, imagenet, an .npz file (images uint8 "
    "N,H,W[,C]; labels), or a folder with one folder a class"
)
# Where a dataset's diffusion model lies unless --diffusion says otherwise.
FASHION_MNIST_DIFFUSION = (
    "checkpoints/fashion_mnist_diffusion.pt",
    located("pkg:fashion_mnist_diffusion.pt"),
)
DIFFUSION_FILES = {
    "fashion_mnist": FASHION_MNIST_DIFFUSION,
    "fashion_mnist_sample": FASHION_MNIST_DIFFUSION,
    "cifar10": (
        "pretrained_models/cifar10_uncond_50M_500K.pt",
        "checkpoints/cifar10_uncond_50M_500K.pt",
    ),
    "imagenet": (
        "pretrained_models/256x256_diffusion_uncond.pt",
        "checkpoints/256x256_diffusion_uncond.pt",
    ),
}
# Another network than the published one, so that it is named, but never taken unasked.
OUR_DIFFUSION = {
    "cifar10": (
        "checkpoints/cifar10_diffusion.pt",
        "a small U-Net of ours, 7.3 M parameters, where the published one has 52.5 M",
    )
}
WEIGHTS = (
    "of a classifier's checkpoint that holds two sets of weights: raw (as trained) or ema "
    "(averaged); by default ema where there are two"
)


def find_diffusion(dataset: str, given: str | None) -> str | None:
    """The diffusion model that the user gave, or else the one that lies where it should, if any."""
    if given is not None:
        return given
    return next((path for path in DIFFUSION_FILES.get(dataset, ()) if Path(path).is_file()), None)


OPTIONS_OF_KINDS: dict[str, Callable[[PurifierKind], bool]] = {
    "steps": lambda kind: kind.steps is not None,
    "runs": lambda kind: kind.reverse_runs,
}


@dataclass(frozen=True, kw_only=True)
class ImageOptions(OptionRecord):
    """Where images lie, and how a folder's files become images."""

    data_root: str = option("data", "folder of a known dataset")
    image_size: int | None = option(None, "of a folder of your own whose images have several "
        "sizes: the shorter side is resized to so many pixels (bilinear, antialiased), then the "
        "middle square cut out; noise and radius are of that size", least=1)  # fmt: skip
    exif: ExifChoice | None = option(None, "apply or ignore the EXIF orientation that files of "
        "such a folder carry")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class PurifierOptions(ImageOptions):
    """And the images' name, and what purifies them."""

    dataset: str = required(DATASETS)
    purifier: str = option("oneshot", "oneshot: one reverse-diffusion jump; multistep: several "
        "steps, a vote being the answer of most --runs (DensePure); none: plain randomized "
        "smoothing; or package.module:factory of a purifier of your own")  # fmt: skip
    convention: Convention | None = option(None, "how sigma is matched to a timestep: diffsmooth, "
        "carlini or densepure; by default densepure for multistep and diffsmooth for "
        "oneshot")  # fmt: skip
    steps: int | None = option(
        None,
        f"of multistep: timesteps a reverse run (default: {purifier_kind('multistep').steps})",
        least=1,
    )
    runs: int | None = option(None, "of multistep: reverse runs a vote (default: 1)", least=1)
    pad: Pad = option("none", "none: the diffusion model sees the images at their own size; "
        "reflect: padded to its own, and cropped again")  # fmt: skip
    diffusion: str | None = option(None, "checkpoint of the diffusion model; by default the "
        "published file's name in pretrained_models/, then in checkpoints/ (of fashion_mnist ours, "
        "which is shipped; of cifar10 ours has to be named); or a folder of "
        "diffusers (a UNet2DModel with its scheduler), or package.module:factory of a denoiser of "
        "your own, (noisy, sigma) -> clean images", shipped=True)  # fmt: skip
    unsafe_load: bool = option(False, "run code that a checkpoint may hold; only for files that "
        "you trust")  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        # What would not be used is not what its user wanted.
        for name, takes in OPTIONS_OF_KINDS.items():
            if getattr(self, name) is not None and not takes(self.kind):
                owners = [word for word in PURIFIERS if takes(purifier_kind(word))]
                raise UserError(
                    f"{name} is of purifier {' or '.join(owners)}, not of {self.purifier}"
                )
        if self.convention or self.pad != "none":
            name = "convention" if self.convention else "pad"
            if not self.kind.denoiser:
                raise UserError(f"{name} has no meaning with purifier {self.purifier}")
            if self.diffusion is not None and is_code(self.diffusion):
                raise UserError(f"{name} is of a checkpoint's U-Net, not of {self.diffusion}")

    def check_inputs(self) -> Self:
        check_dataset(self.dataset)
        if self.diffusion_source is not None:
            check_source(self.diffusion_source)
        return super().check_inputs()

    @property
    def kind(self) -> PurifierKind:
        """What the purifier takes."""
        return purifier_kind(self.purifier)

    @property
    def diffusion_source(self) -> str | None:
        """The diffusion model that is used, where there is one: a file, or package.module:factory.

        What the user named, or else what lies where it should.
        """
        if not self.kind.denoiser:
            return None
        return find_diffusion(self.dataset, self.diffusion)

    @property
    def diffusion_file(self) -> Path | None:
        """`diffusion_source`, if it is a file."""
        source = self.diffusion_source
        return None if source is None or is_code(source) else Path(source)

    @property
    def used_convention(self) -> Convention:
        """--convention, or the purifier's own."""
        return self.convention or self.kind.convention


@dataclass(frozen=True, kw_only=True)
class VotingOptions(PurifierOptions):
    """And the classifier, and how it votes."""

    classifier: str = required("the base classifier: a checkpoint, a folder of transformers or "
        "timm, or package.module:factory of a network of your own for images in [0, 1], which "
        "is your code and runs as such", shipped=True)  # fmt: skip
    sigma: float = required("noise level, standard deviation in [0, 1] pixel units",
        check=check_noise)  # fmt: skip
    n: int = option(10_000, "votes an image (after N0)", "--n", "--N", least=1)
    alpha: float = option(0.001, "failure probability an image, in (0, 1)", check=check_alpha)
    batch: int | Literal["auto"] = option("auto", "votes a forward pass; auto: on a GPU as many as "
        "fit (a power of two up to 4,096), else the published code's: 50, of predict "
        "1,000", least=1)  # fmt: skip
    local_seed: int = option(42, "seed of the local copies' fixed noise", check=check_seed)
    seed: int = option(0, "seed of the votes' noise")
    arch: str | None = option(None, "the classifier's architecture, where its checkpoint does not "
        "say: cifar_resnetD, a timm name, dmae_cifar10 or dmae_imagenet, or package.module:factory "
        "of a network of your own, made from the number of classes")  # fmt: skip
    normalize: str = option("auto", "the classifier's input layer: standard, center, none, or "
        "MEAN,STD in [0, 1] pixel units; auto: the checkpoint's, or else the most accurate under "
        "noise")  # fmt: skip
    weights: str | None = option(None, f"{WEIGHTS}; or, of package.module:factory, the file of "
        "its weights")  # fmt: skip
    sanity_check: bool = option(True, "stop before the votes if accuracy is near chance")
    noise: Noise = option("auto", "source of the votes' noise: integer (exact, for images of 8 "
        "bits), float (the same on every device, too), device (floats that are made where the "
        "networks run), or auto: integer where the images allow it, else float")  # fmt: skip
    precision: str = option("auto", "float32, tf32 (CUDA), bf16 (layers only), or auto: bf16 where "
        "the hardware has it")  # fmt: skip
    kernels: Kernels = option("fixed", "of CUDA: fixed, by shapes and hardware; or timed: the "
        "fastest on trial at each start, so that near-ties may differ between starts and "
        "ranks; certificates hold")  # fmt: skip

    def check_inputs(self) -> Self:
        check_source(self.classifier, self.weights)
        return super().check_inputs()


@dataclass(frozen=True, kw_only=True)
class ProcessOptions(OptionRecord):
    """Which processes a run has, and what it leaves beside its own files."""

    compile: bool | Literal["auto"] = option("auto", "compile the networks: true, false, or auto, "
        "by the votes ahead")  # fmt: skip
    in_flight: int = option(IN_FLIGHT, "images at once on a device, at most; changes no "
        "result", least=1)  # fmt: skip
    threads: int | None = option(None, "CPU threads a process; by default cores / processes on "
        "this host", least=1)  # fmt: skip
    accelerator: str = option("auto", "Lightning's: auto, cpu, gpu, ...")
    devices: int = option(1, "processes on this host, one a device", least=1)
    num_nodes: int = option(1, "hosts", least=1)
    logdir: str = option("logs", "folder of what is logged")
    overwrite: bool = option(False, "replace the files of a different run; the run's own are kept")
    dry_run: bool = option(False, "say what the run would do, and how long it would take, and stop "
        "before the first vote: nothing is written")  # fmt: skip
    quiet: bool = option(False, "print the closing table only (of --dry_run what it says), and "
        "errors")  # fmt: skip
    json: bool = option(False, "print the closing table as JSON, and all else on standard error")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dry_run and self.json:
            raise UserError("--json is of the closing table, which a --dry_run does not have")


@dataclass(frozen=True, kw_only=True)
class SmoothingOptions(VotingOptions, ProcessOptions):
    """A run of `certify` or `predict`, but for its plan; the defaults are the published code's."""

    outfile: str = required("table to write; its journal, manifest and figure lie beside it")
    skip: int | None = option(None, "take every skip-th image (default: 1 where there are at most "
        "1,000, else 100, as the published code)", least=1)  # fmt: skip
    max: int = option(-1, "stop before this index of the dataset (an index, not a number of "
        "images); -1: no stop. The published loops stop only where it is a multiple of "
        "--skip", least=-1)  # fmt: skip
    split: str = option("test", "train or test")
    m: int = option(5, "local copies a vote", least=1)
    local_noise_sd: float = option(0.25, "noise of the local copies, standard deviation in [0, 1] "
        "pixel units", "--local_noise_sd", "--sigma_local", check=check_local_noise)  # fmt: skip
    shard: str | None = option(None, "I/K: do the I-th of K parts of the images (1/K to K/K), "
        "beside other processes with the same OUTFILE; `diffsmooth merge OUTFILE` writes the "
        "table")  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        with option_values():
            _ = self.own_shard

    def check_inputs(self) -> Self:
        files = self.files
        check_place(files.table)
        check_no_input(
            (*files.results, files.manifest, files.parts),
            [
                self.classifier,
                find_diffusion(self.dataset, self.diffusion),
                *data_files(self.dataset, self.data_root),
            ],
        )
        return super().check_inputs()

    @property
    def files(self) -> OutputFiles:
        """What the run writes."""
        return OutputFiles(self.outfile)

    @property
    def own_shard(self) -> Shard | None:
        """--shard, parsed."""
        return None if self.shard is None else Shard.parse(self.shard)

    @property
    def processes(self) -> int:
        """Of the whole run, on all machines."""
        return self.devices * self.num_nodes * (self.own_shard.total if self.own_shard else 1)


@dataclass(frozen=True, kw_only=True)
class CertifyOptions(SmoothingOptions, PlanOptions):
    """A run of `certify`, with its plan."""

    logger: list[str] = option(["tensorboard"], "what the results are logged to, in LOGDIR: "
        "tensorboard, csv, wandb (its account, or WANDB_MODE=offline), none; or "
        "PACKAGE.MODULE:FACTORY of a Lightning logger of your own, from a folder and a name",
        check=check_logger)  # fmt: skip

    def check_inputs(self) -> Self:
        for word in self.logger:
            if is_code(word):
                what = "called with a folder and a name, that gives the logger"
                check_call(word, imported(word), what, "folder", "name")  # before the votes
        return super().check_inputs()


@dataclass(frozen=True, kw_only=True)
class PredictOptions(SmoothingOptions):
    """A run of `predict`, by defaults of its own."""

    outfile: str = required("table to write; its journal and manifest lie beside it")
    skip: int = option(1, "take every skip-th image", least=1)
    n: int = option(100_000, "votes an image", "--n", "--N", least=1)
