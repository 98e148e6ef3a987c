"""`diffsmooth doctor`: what a checkpoint is, whether it works, and what a run with it costs."""

import time
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from jsonargparse import ActionYesNo
from torch import nn

from diffsmooth.cli.errors import OneLineParser, user_errors
from diffsmooth.cli.networks import DIFFUSION_FILES, check_classifier
from diffsmooth.cli.sanity import (
    MOST_IMAGES,
    measure_input_layers,
    noisy_accuracy,
    with_input_layer,
)
from diffsmooth.lit.data import ImageSet, load_images
from diffsmooth.lit.identity import file_sha256
from diffsmooth.models import (
    IdentityPurifier,
    LocalSmoothing,
    OneShotPurifier,
    SmoothedClassifier,
)
from diffsmooth.models.formats import read_checkpoint
from diffsmooth.models.loading import classifier_of, unet_of
from diffsmooth.models.noise import NoiseKey
from diffsmooth.models.precision import resolve_precision
from diffsmooth.models.presets import PRESETS, build_unet, get_preset
from diffsmooth.models.purifiers import Purifier
from diffsmooth.models.weights import Checkpoint, check_weights

NOISE_LEVELS = (0.0, 0.12, 0.25, 0.5, 1.0)
TIMED_BATCHES = 3


@dataclass(frozen=True)
class DoctorOptions:
    """On what a classifier is tried, and the run whose costs are wanted."""

    dataset: str | None
    data_root: str
    arch: str | None
    normalize: str
    diffusion: str | None
    sigma: float
    m: int
    n: int
    images: int
    unsafe_load: bool

    def __post_init__(self) -> None:
        for name in ("m", "n", "images"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


def main(args: list[str] | None = None, prog: str = "diffsmooth doctor") -> None:
    """Runs the command on `args`, by default the process's."""
    parser = OneLineParser(prog=prog, description=__doc__)
    add = parser.add_argument
    add("checkpoints", type=str, nargs="+", help="files to look at")
    add("--dataset", type=str | None, default=None,
        help="labelled images to try it on; by default what it was trained on")  # fmt: skip
    add("--data_root", type=str, default="data", help="folder of a known dataset")
    add("--arch", type=str | None, default=None, help="of a classifier that does not say")
    add("--normalize", type=str, default="auto", help="input layer, where you know it")
    add("--diffusion", type=str | None, default=None, help="diffusion model, for the costs")
    add("--sigma", type=float, default=0.5, help="of the planned run, for the costs")
    add("--m", type=int, default=5, help="local copies a vote of the planned run")
    add("--n", "--N", dest="n", type=int, default=100_000, help="votes an image of it")
    add("--images", type=int, default=500, help="images of it")
    add("--unsafe_load", action=ActionYesNo, default=False, help="run code that a file may hold")
    namespace = parser.parse_args(args)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with user_errors(prog):
        options = DoctorOptions(
            **{f.name: getattr(namespace, f.name) for f in fields(DoctorOptions)}
        )
        for path in namespace.checkpoints:
            checkpoint = read_checkpoint(path, options.unsafe_load)
            print("\n".join(describe(checkpoint)))
            if checkpoint.metadata.kind == "classifier":
                _examine(checkpoint, options, device)


def describe(checkpoint: Checkpoint) -> list[str]:
    """What the file itself says, in lines."""
    metadata, path = checkpoint.metadata, checkpoint.path
    numbers = sum(value.numel() for value in checkpoint.state_dict.values())
    network = metadata.arch or metadata.preset or "of unknown architecture"
    lines = [
        f"{path}",
        f"  file         {path.stat().st_size / 1e6:.1f} MB, sha256 {file_sha256(path)}",
        f"  written by   {checkpoint.family}",
        f"  holds        a {metadata.kind}, {network}: {len(checkpoint.state_dict)} tensors, "
        f"{numbers:,} numbers",
    ]
    said = {
        "dataset": metadata.dataset,
        "sigma'": "" if metadata.sigma is None else f"{metadata.sigma:g}",
        "input layer": metadata.input_layer,
        "largest sigma": "" if metadata.max_sigma is None else f"{metadata.max_sigma:g}",
        "epoch": "" if checkpoint.epoch < 0 else str(checkpoint.epoch),
    }
    lines.append(
        "  it says      " + (", ".join(f"{k} {v}" for k, v in said.items() if v) or "nothing")
    )
    if metadata.kind == "unet":
        lines.append(f"  keys         {_unet_keys(checkpoint)}")
    return lines


def _unet_keys(checkpoint: Checkpoint) -> str:
    """Whether a U-Net's keys are those of an architecture that we know."""
    metadata = checkpoint.metadata
    if not metadata.preset:
        return "of none of the architectures that we know: " + ", ".join(PRESETS)
    with torch.device("meta"):
        unet = build_unet(metadata.preset, **metadata.overrides)
    check_weights(unet, checkpoint)
    largest = get_preset(metadata.preset).schedule.max_sigma
    return f"all fit; the schedule reaches sigma {largest:.3g}"


def _examine(checkpoint: Checkpoint, options: DoctorOptions, device: torch.device) -> None:
    """Tries a classifier on labelled images."""
    metadata = checkpoint.metadata
    dataset = options.dataset
    if dataset is None:
        shipped = metadata.dataset == "fashion_mnist"
        dataset = "fashion_mnist_sample" if shipped else metadata.dataset
    if not dataset:
        print("  accuracy     not measured: name labelled images by --dataset")
        return
    images = load_images(dataset, options.data_root)
    info = metadata.dataset_info or images.info
    check_classifier(checkpoint, info, images)
    arch = options.arch or metadata.arch
    layer = metadata.input_layer if options.normalize == "auto" else options.normalize
    model = classifier_of(checkpoint, info, arch, layer or "none").to(device)
    if not layer:
        measured = measure_input_layers(model, arch, images, 0.25, "doctor", 0, device)
        for name, accuracy in measured.items():
            print(f"  input layer  {name}: accuracy {accuracy} at sigma 0.25")
        layer = max(measured, key=lambda name: measured[name].correct)
        model = with_input_layer(model, layer, info).to(device)
    print(f"  keys         all fit {arch} behind input layer {layer}")
    _show_noise_levels(model, images, device)
    _show_cost(model, images, options, device)


def _show_noise_levels(model: nn.Module, images: ImageSet, device: torch.device) -> None:
    shares = []
    for sigma in NOISE_LEVELS:
        accuracy = noisy_accuracy(
            lambda x, _: model(x).argmax(dim=1), images, MOST_IMAGES, sigma, "doctor", 0, device
        )
        shares.append(accuracy.correct / accuracy.total)
    cells = ", ".join(f"{a:.2f} at {s:g}" for s, a in zip(NOISE_LEVELS, shares, strict=True))
    # Trained at a level, a network holds up to it and drops beyond.
    held = [s for s, a in zip(NOISE_LEVELS, shares, strict=True) if a >= 0.93 * max(shares)]
    print(f"  accuracy     {cells} (sigma; {images.info.name})")
    if max(shares) < 2 / images.info.num_classes:
        print("  trained at   unknown: it is near chance at every level")
    else:
        print(f"  trained at   about sigma {max(held):g}, by where its accuracy begins to drop")


def _show_cost(
    model: nn.Sequential, images: ImageSet, options: DoctorOptions, device: torch.device
) -> None:
    given = options.diffusion
    places = [given] if given else DIFFUSION_FILES.get(images.info.name, ())
    found = [place for place in places if Path(place).is_file()]
    purifier: Purifier = IdentityPurifier()
    what = "no diffusion model found: classifier alone"
    if given or found:
        checkpoint = read_checkpoint(given or found[0])
        purifier = OneShotPurifier(
            unet_of(checkpoint), get_preset(checkpoint.metadata.preset).schedule
        )
        what = f"with {checkpoint.path}"
    shape = images.info.image_shape
    local = LocalSmoothing(model, options.m, 0.25, shape)
    precision = resolve_precision("auto", device.type)
    smoothed = SmoothedClassifier(
        purifier, local, options.sigma, images.info.num_classes, 50, precision
    ).to(device)
    noise = smoothed.vote_noise(NoiseKey(0, "doctor", "", "", 0), 0, shape)
    image = images[0].image
    smoothed.count_votes(image, noise, 50)  # warms up
    start = time.perf_counter()
    smoothed.count_votes(image, noise, TIMED_BATCHES * 50)
    rate = TIMED_BATCHES * 50 / (time.perf_counter() - start)
    hours = options.n * options.images / rate / 3600
    print(
        f"  cost         {rate:.0f} votes/s on this {device.type} ({precision}, m = {options.m}; "
        f"{what}): {hours:.1f} hours for {options.images} images of {options.n:,} votes"
    )
