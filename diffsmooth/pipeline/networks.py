"""The networks that a run needs, from checkpoints, checked against the images."""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from diffsmooth.lit.data import ImageSet, Reading
from diffsmooth.models import LocalSmoothing
from diffsmooth.models.checkpoints.denoisers import (
    check_denoiser,
    denoiser_of,
    foreign_denoiser,
    foreign_sha256,
)
from diffsmooth.models.checkpoints.formats import UNET_KEY, read_checkpoint
from diffsmooth.models.checkpoints.loading import classifier_of, told_input_layer
from diffsmooth.models.checkpoints.sources import path_sha256
from diffsmooth.models.checkpoints.weights import Checkpoint
from diffsmooth.models.classifiers.dataset_info import DatasetInfo, misplaced
from diffsmooth.models.classifiers.input_layers import Resized
from diffsmooth.models.diffusion.denoiser import Denoiser
from diffsmooth.models.smoothing.finite import watched_layers
from diffsmooth.models.smoothing.purifiers import Purifier
from diffsmooth.models.smoothing.vote_function import VoteFunction
from diffsmooth.models.words import Convention
from diffsmooth.pipeline.input_layer_choice import measure_input_layers, with_input_layer
from diffsmooth.pipeline.specification import (
    DIFFUSION_FILES,
    ImageOptions,
    PurifierOptions,
    VotingOptions,
)
from diffsmooth.shown_text import shown, word
from diffsmooth.stats.errors import UserError, option_values
from diffsmooth.stats.registry import is_code

# Of networks that do not say how many channels they take.
FIRST_WEIGHTS = ("1.conv1.weight", "1.patch_embed.proj.weight", UNET_KEY)


class Inputs(NamedTuple):
    """The checkpoint of a classifier, and images that are read as it takes them."""

    checkpoint: Checkpoint
    images: ImageSet


class Networks(NamedTuple):
    """What votes on images: a classifier, behind a purifier."""

    images: ImageSet
    classifier: "LoadedClassifier"
    purifier: "LoadedPurifier"

    @property
    def said(self) -> list[str]:
        """Lines that tell what they are, and what was chosen by measuring."""
        lines = (*self.classifier.said, self.purifier.note)
        return [self.images.describe(), *(shown(line) for line in lines if line)]

    def vote_function(
        self, options: VotingOptions, m: int, sigma_local: float, batch: int, precision: str
    ) -> VoteFunction:
        """What votes, by a setting of the local smoothing; the networks are its own."""
        shape = self.images.info.image_shape
        model, num_classes, *_ = self.classifier
        purifier, sigma = self.purifier.purifier, options.sigma
        with option_values():
            local = LocalSmoothing(model, m, sigma_local, shape, options.local_seed)
            return VoteFunction(purifier, local, sigma, num_classes, batch, precision, copy=False)


def load_networks(
    options: VotingOptions, sigma_local: float, inputs: Inputs, device: torch.device
) -> Networks:
    """The networks that the options ask for.

    Args:
        options: name them.
        sigma_local: noise of the copies that the classifier will see.
        inputs: the classifier's checkpoint, and the images.
        device: where an input layer is measured, if need be.

    Raises:
        UserError: see `choose_classifier` and `load_purifier`.
    """
    return Networks(
        inputs.images,
        choose_classifier(options, sigma_local, inputs, device),
        load_purifier(options, options.sigma, inputs.images),
    )


class LoadedPurifier(NamedTuple):
    """A purifier, and the file of its network.

    Attributes:
        source: the file, or package.module:factory; None where it has no network.
        set_key, note: which weights of the file were taken, see `Checkpoint`.
    """

    purifier: Purifier
    source: str | None
    set_key: str = ""
    note: str = ""


def load_purifier(options: PurifierOptions, sigma: float, images: ImageSet) -> LoadedPurifier:
    """The purifier that the options ask for, for noise up to sigma.

    Raises:
        UserError: its checkpoint is missing or broken, or was not made for such images or noise.
    """
    kind = options.kind
    if not kind.denoiser:
        return LoadedPurifier(kind.build(None, options.steps, options.runs), None)
    source = options.diffusion_source
    if source is None:
        tried = ", ".join(DIFFUSION_FILES.get(options.dataset, ()))
        raise UserError(
            f"no diffusion model for {options.dataset}{f' (looked for {tried})' if tried else ''}: "
            "name one with --diffusion, or use --purifier none"
        )
    denoiser, set_key, note = load_diffusion(
        source, sigma, images.info, options.used_convention, options.pad, options.unsafe_load
    )
    purifier = kind.build(denoiser, options.steps, options.runs)
    return LoadedPurifier(purifier, source, set_key, note)


def reading_for(checkpoint: Checkpoint | None, options: ImageOptions) -> Reading:
    """How a folder's files become images for a network: in its channels, with its classes."""
    channels = 3
    names: tuple[str, ...] = ()
    if checkpoint is not None:
        weights, shape = checkpoint.state_dict, checkpoint.metadata.image_shape
        first = [weights[key].shape[1] for key in FIRST_WEIGHTS if key in weights]
        channels = [*shape[:1], *first, 3][0]
        names = tuple(checkpoint.metadata.class_names)
    return Reading(options.image_size, options.exif, 1 if channels == 1 else 3, names)


class LoadedDenoiser(NamedTuple):
    """A denoiser, and which weights of its file were taken, see `Checkpoint`."""

    denoiser: Denoiser
    set_key: str = ""
    note: str = ""


def load_diffusion(
    source: str,
    sigma: float,
    info: DatasetInfo,
    convention: Convention = "diffsmooth",
    pad: str = "none",
    unsafe: bool = False,
) -> LoadedDenoiser:
    """The denoiser of a file, or of package.module:factory, for such images and such noise.

    Raises:
        UserError: missing or broken, or not made for them.
    """
    if is_code(source):
        loaded = LoadedDenoiser(foreign_denoiser(source))
    else:
        checkpoint = read_checkpoint(source, unsafe)
        denoiser = denoiser_of(checkpoint, convention, pad)
        loaded = LoadedDenoiser(denoiser, checkpoint.set_key, checkpoint.note)
    check_denoiser(loaded.denoiser, source, sigma, info)
    return loaded


def diffusion_sha256(source: str | None) -> str:
    """What a run's identity holds of a diffusion model: "" where there is none."""
    if source is None:
        return ""
    if is_code(source):
        return foreign_sha256(source)
    return path_sha256(Path(source)) if Path(source).exists() else ""


class LoadedClassifier(NamedTuple):
    """A classifier, and what was chosen of its own accord.

    Attributes:
        model: input layer and network.
        num_classes: K.
        input_layer: the model's.
        said: lines that tell what was chosen, and by what.
    """

    model: nn.Sequential
    num_classes: int
    input_layer: str
    said: tuple[str, ...]


def choose_classifier(
    options: VotingOptions, sigma_local: float, inputs: Inputs, device: torch.device
) -> LoadedClassifier:
    """The checkpoint's classifier behind the input layer that the options ask for.

    Raises:
        UserError: it was not made for such images, does not fit what the options say, or does not
            say its input layer, and the images do not tell it.
    """
    checkpoint, images = inputs
    metadata = checkpoint.metadata
    info = metadata.dataset_info or images.info
    check_classifier(checkpoint, info, images)
    arch = options.arch or metadata.arch
    said = [checkpoint.note] if checkpoint.note else []
    told = told_input_layer(checkpoint, arch)
    layer = told if options.normalize == "auto" else options.normalize
    model = classifier_of(checkpoint, info, arch, layer or "none", images.info.image_shape)
    check_forward(model, images.info, checkpoint.path)
    if not layer:
        # The noise that the network will see: it is trained at about the local noise's level.
        sigma = sigma_local if options.kind.denoiser else options.sigma
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
    return LoadedClassifier(model, info.num_classes, layer, tuple(said))


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
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    try:
        with torch.inference_mode(), watched_layers(model, str(path)):
            model.eval()(torch.zeros(1, *info.image_shape, device=device))
    except UserError:
        raise
    except (RuntimeError, AssertionError, ValueError, TypeError) as error:  # of the network's code
        shape = " x ".join(map(str, info.image_shape))
        raise UserError(f"{path}: cannot take images of {shape} ({error})") from error
