"""What a checkpoint is: its content, its accuracy under noise, and the costs of a run with it."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from diffsmooth.lit.data import ImageSet, load_images
from diffsmooth.lit.data.names import DATASETS
from diffsmooth.models import IdentityPurifier, LocalSmoothing, OneShotPurifier
from diffsmooth.models.checkpoints.denoisers import denoiser_of, openai_outline
from diffsmooth.models.checkpoints.image_cards import training_images_of
from diffsmooth.models.checkpoints.loading import (
    classifier_of,
    classifier_outline,
    told_input_layer,
)
from diffsmooth.models.checkpoints.sources import path_sha256, read_classifier
from diffsmooth.models.checkpoints.weights import Checkpoint, misfits
from diffsmooth.models.classifiers.dataset_info import DatasetInfo
from diffsmooth.models.diffusion.openai import build_unet
from diffsmooth.models.diffusion.presets import PRESETS
from diffsmooth.models.smoothing.noise import NoiseKey
from diffsmooth.models.smoothing.one_image import run_plan
from diffsmooth.models.smoothing.precision import autocast
from diffsmooth.models.smoothing.purifiers import Purifier
from diffsmooth.models.smoothing.vote_function import VoteFunction
from diffsmooth.models.words import USUAL_BATCH
from diffsmooth.pipeline.batch_choice import chosen_batch
from diffsmooth.pipeline.classifier_choice import check_classifier, check_forward, resizing
from diffsmooth.pipeline.command_specification import ExamineOptions
from diffsmooth.pipeline.examine_code import describe_made, examine_code, is_purifier
from diffsmooth.pipeline.input_layer_choice import measure_input_layers, with_input_layer
from diffsmooth.pipeline.inputs import reading_for
from diffsmooth.pipeline.purifier_loading import load_diffusion
from diffsmooth.pipeline.sanity import MOST_IMAGES, Accuracy, right_answers
from diffsmooth.pipeline.specification import find_diffusion
from diffsmooth.stats import MajorityVote
from diffsmooth.stats.errors import UserError
from diffsmooth.stats.printed import counted, digits_down, exact, rounded_down, rounded_up
from diffsmooth.stats.registry import imported, is_code

NOISE_LEVELS = (0.0, 0.12, 0.25, 0.5, 1.0)
LAYER_SIGMA = 0.25  # at which input layers are compared
TIMED_BATCHES = 3
SLOW_SECONDS = 0.2  # a vote; slower ones are timed in small batches


def examine(
    source: str, options: ExamineOptions, device: torch.device, precision: str
) -> Iterator[str]:
    """Lines that tell what a user names: a file, a folder or code.

    Raises:
        UserError: see `read_classifier`; weights that do not fit, or images that do not.
    """
    if is_code(source) and is_purifier(imported(source)):
        yield source
        yield "  gives        a purifier"
        yield "  certify      takes it as --purifier"
        return
    checkpoint = read_classifier(source, options.weights, options.unsafe_load)
    yield from _examine_network(checkpoint, options, device, precision)


def _examine_network(
    checkpoint: Checkpoint, options: ExamineOptions, device: torch.device, precision: str
) -> Iterator[str]:
    """What it holds; of a classifier also how it does under noise."""
    metadata = checkpoint.metadata
    if checkpoint.family == "code":
        classes = None
        if options.dataset:
            images = load_images(
                options.dataset, options.data_root, reading=reading_for(checkpoint, options)
            )
            classes = images.info.num_classes
        code = examine_code(metadata.arch, classes)
        yield metadata.arch
        yield f"  gives        {code.gives}"
        yield f"  certify      takes it {code.taken}"
        if not code.is_classifier:
            return
    else:
        yield from describe(checkpoint)
    if metadata.kind != "classifier":
        yield f"  keys         {_denoiser_keys(checkpoint)}"
        return
    arch = options.arch or metadata.arch
    if not arch and not checkpoint.build:
        yield "  keys         of an unknown architecture: name it by --arch"
        return
    if not checkpoint.build:
        yield f"  keys         {_classifier_keys(checkpoint, arch)}"
    dataset = options.dataset or _own_dataset(metadata.dataset)
    if not dataset:
        yield "  accuracy     not measured: name labelled images by --dataset"
        return
    reading = reading_for(checkpoint, options)
    images = load_images(dataset, options.data_root, reading=reading)
    yield from (f"  {line}" for line in images.describe().splitlines())
    info = metadata.dataset_info or images.info
    check_classifier(checkpoint, info, images)
    told = told_input_layer(checkpoint, arch)
    layer = told if options.normalize == "auto" else options.normalize
    shape = images.info.image_shape
    model = classifier_of(checkpoint, info, arch, layer or "none", shape).to(device)
    check_forward(model, images.info, checkpoint.path)
    if said := resizing(model):
        yield f"  {said}"
    if not layer:
        for sigma in (LAYER_SIGMA, 0.0):  # a network that was trained without noise needs none
            choice = measure_input_layers(model, arch, images, sigma, "doctor", 0, device)
            for one in choice.measured:
                best = " <- fits best" if one.name == choice.name else ""
                yield f"  input layer  {one.name}: accuracy {one.accuracy} at sigma {sigma:g}{best}"
            if choice.name:
                break
        layer = choice.name
        if choice.doubt:
            yield f"  input layer  {choice.doubt}: --normalize decides"
        if not layer:
            yield "  accuracy     not measured: without the input layer it means nothing"
            return
        model = with_input_layer(model, layer, info).to(device)
    else:
        yield f"  input layer  {layer}"
    yield from _noise_levels(model, images, device, precision, guess=metadata.sigma is None)
    yield _cost(model, images, options, device, precision)


def describe(checkpoint: Checkpoint) -> list[str]:
    """What the file itself says, in lines."""
    metadata, path = checkpoint.metadata, checkpoint.path
    numbers = sum(value.numel() for value in checkpoint.state_dict.values())
    size = f"{counted(len(checkpoint.state_dict), 'tensor')}, {counted(numbers, 'number')}"
    if checkpoint.build is not None and not checkpoint.state_dict:  # a whole module
        size = describe_made(checkpoint.build(0)).partition(": ")[2]
    network = metadata.arch or metadata.preset or "of unknown architecture"
    said = {
        "dataset": metadata.dataset,
        "sigma'": "" if metadata.sigma is None else exact(metadata.sigma),
        "purified at sigma": (
            "" if metadata.purified_sigma is None else exact(metadata.purified_sigma)
        ),
        "input layer": metadata.input_layer,
        "largest sigma": "" if metadata.max_sigma is None else exact(metadata.max_sigma),
        "epoch": "" if checkpoint.epoch < 0 else str(checkpoint.epoch),
    }
    return [
        f"{path}",
        *_size(path),
        f"  written by   {checkpoint.family}",
        f"  holds        a {metadata.kind}, {network}: {size}",
        *(
            [f"  note         {checkpoint.note.removeprefix(f'{path}: ')}"]
            if checkpoint.note
            else []
        ),
        f"  images       {training_images_of(checkpoint)}",
        "  it says      " + (", ".join(f"{k} {v}" for k, v in said.items() if v) or "nothing"),
    ]


def _size(path: Path) -> list[str]:
    """The file, or the files of a folder; nothing of code."""
    if not path.exists():
        return []
    files = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
    size = sum(one.stat().st_size for one in files) / 1e6
    kind = "file" if path.is_file() else "folder"
    return [f"  {kind:<11}  {size:.1f} MB, sha256 {path_sha256(path)}"]


def _denoiser_keys(checkpoint: Checkpoint) -> str:
    """Whether a denoiser's keys are those of an architecture that we know.

    Raises:
        UserError: of none; the nearest one and its first misfits are named.
    """
    metadata = checkpoint.metadata
    if metadata.kind != "unet":
        denoiser = denoiser_of(checkpoint)
        largest = digits_down(denoiser.max_sigma, 3)
        return f"all fit, {_parameters(denoiser)}; the schedule reaches sigma {largest}"
    if metadata.preset:
        outline = openai_outline(checkpoint)
        largest = digits_down(outline.schedule.max_sigma, 3)
        return f"all fit, {_parameters(outline)}; the schedule reaches sigma {largest}"
    with torch.device("meta"):
        known = {name: misfits(build_unet(name), checkpoint.state_dict) for name in PRESETS}
    nearest = min(known, key=lambda name: len(known[name]))
    raise UserError(
        f"{checkpoint.path}: no architecture that we know ({', '.join(PRESETS)}); nearest is "
        f"{nearest}, but {'; '.join(known[nearest][:3])}, {len(known[nearest])} misfits in all"
    )


def _own_dataset(name: str) -> str:
    """What a classifier was trained on, where it can be found by its name alone."""
    if name == "fashion_mnist":
        return "fashion_mnist_sample"  # shipped
    return name if name in DATASETS else ""


# By the number of a tensor's dimensions, which may be the head: linear, convolutional, its bias.
HEADS: tuple[Callable[[int], bool], ...] = (
    lambda rank: rank == 2,
    lambda rank: rank >= 2,
    lambda rank: rank == 1,
)


def _classifier_keys(checkpoint: Checkpoint, arch: str) -> str:
    """Whether a classifier's keys are those of its architecture.

    Raises:
        UserError: they are not.
    """
    shapes = [value.shape for value in checkpoint.state_dict.values()]
    told = checkpoint.metadata
    # Any size does; channels are those of the first convolution.
    channels = [*told.image_shape[:1], *(shape[1] for shape in shapes if len(shape) == 4), 3][0]
    heads = (
        [len(told.class_names)],
        *([shape[0] for shape in reversed(shapes) if fits(len(shape))][:1] for fits in HEADS),
    )
    problem: UserError | None = None
    for classes in dict.fromkeys(count for head in heads for count in head if count > 1):
        info = DatasetInfo("", (channels, 32, 32), tuple(map(str, range(classes))))
        try:
            model = classifier_outline(checkpoint, arch, info)
        except UserError as error:
            problem = problem or error
        else:
            return f"all fit {arch}, {_parameters(model)}, {classes} classes"
    raise problem or UserError(f"{checkpoint.path}: no tensor of it could be a classifier's head")


def _parameters(model: nn.Module) -> str:
    return f"{sum(p.numel() for p in model.parameters()):,} parameters"


def _noise_levels(
    model: nn.Module, images: ImageSet, device: torch.device, precision: str, guess: bool
) -> Iterator[str]:
    """Its accuracy under noise; where `guess`, also at which noise it seems to be trained."""

    def classify(noisy: Tensor, _: object) -> Tensor:
        with autocast(precision, device.type):
            return model(noisy).argmax(dim=1)

    shares = []
    for sigma in NOISE_LEVELS:
        right = right_answers(classify, images, MOST_IMAGES, sigma, "doctor", 0, device)
        if not len(right):
            yield f"  accuracy     unknown: no image of {images.info.name} can be read"
            return
        accuracy = Accuracy.of(right)
        shares.append(accuracy.correct / accuracy.total)
    cells = ", ".join(
        f"{rounded_down(a, 2)} at {s:g}" for s, a in zip(NOISE_LEVELS, shares, strict=True)
    )
    # Trained at a level, a network holds up to it and drops beyond.
    held = [s for s, a in zip(NOISE_LEVELS, shares, strict=True) if a >= 0.93 * max(shares)]
    yield f"  accuracy     {cells} (sigma; {accuracy.total} images of {images.info.name})"
    if max(shares) < 2 / images.info.num_classes:
        yield "  trained at   unknown: it is near chance at every level"
    elif guess:  # where the file says it, a guess beside it could only differ
        yield f"  trained at   about sigma {max(held):g}, by where its accuracy begins to drop"


def _cost(
    model: nn.Sequential,
    images: ImageSet,
    options: ExamineOptions,
    device: torch.device,
    precision: str,
) -> str:
    purifier: Purifier = IdentityPurifier()
    what = "no diffusion model found: classifier alone"
    source = find_diffusion(images.info.name, options.diffusion)
    if source is not None:
        found = load_diffusion(source, options.sigma, images.info, unsafe=options.unsafe_load)
        purifier = OneShotPurifier(found.denoiser)
        what = f"with {source}"
    shape = images.info.image_shape
    local = LocalSmoothing(model, options.m, 0.25, shape)
    image = images[0].image

    def f_of(batch: int) -> VoteFunction:
        return VoteFunction(
            purifier, local, options.sigma, images.info.num_classes, batch, precision, copy=False
        ).to(device)

    def seconds_a_vote(batch: int, batches: int) -> float:
        f = f_of(batch)
        key = NoiseKey(0, "doctor", "", "", 0)
        run_plan(f, image, key, MajorityVote(batch))  # warms up
        start = time.perf_counter()
        run_plan(f, image, key, MajorityVote(batches * batch))
        return (time.perf_counter() - start) / (batches * batch)

    batch = 2
    seconds = seconds_a_vote(batch, 1)
    if seconds < SLOW_SECONDS:
        batch = chosen_batch(USUAL_BATCH["certify"], options.n, f_of(1), device)
        seconds = seconds_a_vote(batch, TIMED_BATCHES)
    hours = options.n * options.images * seconds / 3600
    peak = ""
    if device.type == "cuda":
        peak = f", {torch.cuda.max_memory_allocated(device) / 2**30:.1f} GiB of its memory at most"
    return (
        f"  cost         {1 / seconds:.3g} votes/s on this {device.type} ({precision}, m = "
        f"{options.m}, batch {batch}{peak}; {what}): {rounded_up(hours, 1)} hours for "
        f"{counted(options.images, 'image')} of {counted(options.n, 'vote')}"
    )
