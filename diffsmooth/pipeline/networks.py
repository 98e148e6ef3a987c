"""The networks that a run needs, from checkpoints, checked against the images."""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from diffsmooth.lit.data import ImageSet, Reading
from diffsmooth.lit.data.picture import ExifChoice
from diffsmooth.models.checkpoints.denoisers import (
    check_denoiser,
    denoiser_of,
    foreign_denoiser,
    foreign_sha256,
    is_factory,
)
from diffsmooth.models.checkpoints.formats import UNET_KEY, read_checkpoint
from diffsmooth.models.checkpoints.loading import classifier_of
from diffsmooth.models.checkpoints.weights import Checkpoint
from diffsmooth.models.classifiers.dataset_info import DatasetInfo, misplaced
from diffsmooth.models.classifiers.input_layers import Resized
from diffsmooth.models.diffusion.denoiser import Denoiser
from diffsmooth.models.diffusion.openai import Convention
from diffsmooth.models.smoothing.finite import watched_layers
from diffsmooth.models.smoothing.purifiers import Purifier, purifier_kind
from diffsmooth.pipeline.input_layer_choice import measure_input_layers, with_input_layer
from diffsmooth.pipeline.specification import PurifierOptions, VotingOptions
from diffsmooth.shown_text import word
from diffsmooth.stats.errors import UserError
from diffsmooth.whole_file import file_sha256

# Where a dataset's diffusion model lies unless --diffusion says otherwise.
DIFFUSION_FILES = {
    "fashion_mnist": ("checkpoints/fashion_mnist_diffusion.pt",),
    "fashion_mnist_sample": ("checkpoints/fashion_mnist_diffusion.pt",),
    "cifar10": (
        "pretrained_models/cifar10_uncond_50M_500K.pt",
        "checkpoints/cifar10_uncond_50M_500K.pt",
    ),
    "imagenet": (
        "pretrained_models/256x256_diffusion_uncond.pt",
        "checkpoints/256x256_diffusion_uncond.pt",
    ),
}
# Of networks that do not say how many channels they take.
FIRST_WEIGHTS = ("1.conv1.weight", "1.patch_embed.proj.weight", UNET_KEY)


class LoadedPurifier(NamedTuple):
    """A purifier, and the file of its network.

    Attributes:
        purifier: the purifier.
        path: the file; None where it has no network.
        set_key, note: which weights of the file were taken, see `Checkpoint`.
    """

    purifier: Purifier
    path: Path | None
    set_key: str = ""
    note: str = ""


def load_purifier(options: PurifierOptions, sigma: float, images: ImageSet) -> LoadedPurifier:
    """The purifier that the options ask for, for noise up to sigma.

    Raises:
        UserError: its checkpoint is missing or broken, or was not made for such images or noise.
    """
    kind = purifier_kind(options.purifier)
    if not kind.denoiser:
        return LoadedPurifier(kind.build(None, options.steps, options.runs), None)
    path = find_diffusion(options.dataset, options.diffusion)
    if path is None:
        tried = ", ".join(DIFFUSION_FILES.get(options.dataset, ()))
        raise UserError(
            f"no diffusion model for {options.dataset}{f' (looked for {tried})' if tried else ''}: "
            "name one with --diffusion, or use --purifier none"
        )
    if is_factory(path) and (options.convention or options.pad != "none"):
        name = "convention" if options.convention else "pad"
        raise UserError(f"{name} is of a checkpoint's U-Net, not of {path}")
    denoiser, set_key, note = load_diffusion(
        path, sigma, images.info, options.matching, options.pad, options.unsafe_load
    )
    return LoadedPurifier(kind.build(denoiser, options.steps, options.runs), path, set_key, note)


def reading_for(
    checkpoint: Checkpoint | None, image_size: int | None, exif: ExifChoice | None
) -> Reading:
    """How a folder's files become images for a network: in its channels, with its classes."""
    channels = 3
    names: tuple[str, ...] = ()
    if checkpoint is not None:
        weights, shape = checkpoint.state_dict, checkpoint.metadata.image_shape
        first = [weights[key].shape[1] for key in FIRST_WEIGHTS if key in weights]
        channels = [*shape[:1], *first, 3][0]
        names = tuple(checkpoint.metadata.class_names)
    return Reading(image_size, exif, 1 if channels == 1 else 3, names)


def find_diffusion(dataset: str, given: str | None) -> Path | None:
    """The diffusion model that the user gave, or else the one that lies where it should, if any.

    A file, or package.module:factory.
    """
    if given is not None:
        return Path(given)
    return next((p for p in map(Path, DIFFUSION_FILES.get(dataset, ())) if p.is_file()), None)


def diffusion_sha256(path: Path | None) -> str:
    """What a run's identity holds of a diffusion model: "" where there is none."""
    if path is not None and is_factory(path):
        return foreign_sha256(str(path))
    return file_sha256(path) if path is not None and path.is_file() else ""


class LoadedDenoiser(NamedTuple):
    """A denoiser, and which weights of its file were taken, see `Checkpoint`."""

    denoiser: Denoiser
    set_key: str = ""
    note: str = ""


def load_diffusion(
    path: Path,
    sigma: float,
    info: DatasetInfo,
    convention: Convention = "diffsmooth",
    pad: str = "none",
    unsafe: bool = False,
) -> LoadedDenoiser:
    """The denoiser that `find_diffusion` found, for such images and such noise.

    Raises:
        UserError: missing or broken, or not made for them.
    """
    if is_factory(path):
        loaded = LoadedDenoiser(foreign_denoiser(str(path)))
    else:
        checkpoint = read_checkpoint(path, unsafe)
        denoiser = denoiser_of(checkpoint, convention, pad)
        loaded = LoadedDenoiser(denoiser, checkpoint.set_key, checkpoint.note)
    check_denoiser(loaded.denoiser, path, sigma, info)
    return loaded


class LoadedClassifier(NamedTuple):
    """A classifier, and what was chosen of its own accord.

    Attributes:
        model: input layer and network.
        num_classes: K.
        arch, input_layer: of the model.
        set_key: which weights of the file were taken, see `Checkpoint`.
        said: lines that tell what was chosen, and by what.
    """

    model: nn.Sequential
    num_classes: int
    arch: str
    input_layer: str
    set_key: str
    said: tuple[str, ...]


def choose_classifier(
    options: VotingOptions,
    local_noise_sd: float,
    checkpoint: Checkpoint,
    images: ImageSet,
    device: torch.device,
) -> LoadedClassifier:
    """The checkpoint's classifier behind the input layer that the options ask for.

    Raises:
        UserError: it was not made for such images, does not fit what the options say, or does not
            say its input layer, and the images do not tell it.
    """
    metadata = checkpoint.metadata
    info = metadata.dataset_info or images.info
    check_classifier(checkpoint, info, images)
    arch = options.arch or metadata.arch
    said = [checkpoint.note] if checkpoint.note else []
    layer = metadata.input_layer if options.normalize == "auto" else options.normalize
    model = classifier_of(checkpoint, info, arch, layer or "none", images.info.image_shape)
    check_forward(model, images.info, checkpoint.path)
    if not layer:
        # The noise that the network will see: it is trained at about the local noise's level.
        purified = purifier_kind(options.purifier).denoiser
        sigma = local_noise_sd if purified else options.sigma
        choice = measure_input_layers(model, arch, images, sigma, "sanity", options.seed, device)
        layer = choice.name
        if not layer:
            raise UserError(
                f"{checkpoint.path} does not say its input layer, and of "
                f"{', '.join(map(str, choice.measured))}, by accuracy under noise {sigma:g}, "
                f"{choice.doubt}: name it by --normalize"
            )
        for name, accuracy in ((one.name, one.accuracy) for one in choice.measured):
            taken = " <- taken" if name == layer else ""
            said.append(f"input layer {name}: accuracy {accuracy} under noise{taken}")
        if choice.doubt:
            said.append(f"note: {choice.doubt}; --normalize decides")
        model = with_input_layer(model, layer, info)
    if metadata.dataset_info is None:  # what was guessed by the file's form is said at each start
        said.append(f"classifier: {arch} behind input layer {layer}, a file of {checkpoint.family}")
    if resized := resizing(model):
        said.append(resized)
    return LoadedClassifier(model, info.num_classes, arch, layer, checkpoint.set_key, tuple(said))


def resizing(model: nn.Sequential) -> str:
    """That a classifier resizes what it is shown, in words; "" if it does not."""
    if not isinstance(model[0], Resized):
        return ""
    size = " x ".join(map(str, model[0].size))
    return f"classifier: takes {size}; what it is shown, noise and all, is resized to that"


def check_classifier(checkpoint: Checkpoint, info: DatasetInfo, images: ImageSet) -> None:
    """Raises UserError for a classifier that was not made for such images or classes.

    Their size may differ: what the classifier is shown is then resized.
    """
    path = checkpoint.path
    largest, classes = int(images.labels.max()), info.num_classes
    if largest >= classes:
        raise UserError(
            f"{images.info.name}: label {largest} is beyond the {classes} classes of {path}"
        )
    wanted, given = info.image_shape, images.info.image_shape
    if wanted[0] != given[0]:
        raise UserError(
            f"{path} takes images of {' x '.join(map(str, wanted))}, "
            f"{images.info.name} has {' x '.join(map(str, given))}"
        )
    names, own = images.info.class_names, info.class_names
    label = misplaced(names, own)
    if label is not None:
        raise UserError(
            f"{images.info.name}: label {label} is {word(names[label])}, of {path} it is label "
            f"{own.index(names[label])}: the classes are in another order"
        )


def check_forward(model: nn.Module, info: DatasetInfo, path: Path) -> None:
    """Raises UserError for a network that cannot take the images at their size, or overflows."""
    parameter = next(model.parameters())
    try:
        with torch.inference_mode(), watched_layers(model, str(path)):
            model.eval()(torch.zeros(1, *info.image_shape, device=parameter.device))
    except (RuntimeError, AssertionError) as error:  # of the network's own code
        shape = " x ".join(map(str, info.image_shape))
        raise UserError(f"{path}: cannot take images of {shape} ({error})") from error
