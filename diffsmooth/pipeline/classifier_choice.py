"""The classifier of a checkpoint, checked against the images; what it does not say is measured."""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from diffsmooth.lit.data import ImageSet
from diffsmooth.models.checkpoints.loading import classifier_of, told_input_layer
from diffsmooth.models.checkpoints.weights import Checkpoint
from diffsmooth.models.classifiers.dataset_info import DatasetInfo, misplaced
from diffsmooth.models.classifiers.input_layers import Resized
from diffsmooth.models.classifiers.logits import show_black
from diffsmooth.models.smoothing.finite import watched_layers
from diffsmooth.pipeline.input_layer_choice import measure_input_layers, with_input_layer
from diffsmooth.pipeline.inputs import Inputs
from diffsmooth.pipeline.specification import VotingOptions
from diffsmooth.shown_text import word
from diffsmooth.stats.errors import UserError


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
    # What was guessed by the file's form is said at each start.
    if metadata.dataset_info is None and checkpoint.family != "code":
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
    path, metadata = checkpoint.path, checkpoint.metadata
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
    names, own = images.info.class_names, metadata.class_names or info.class_names
    if len(own) < len(names):
        raise UserError(f"{path} names {len(own)} classes, {images.info.name} has {len(names)}")
    label = misplaced(names, own)
    if label is not None:
        raise UserError(
            f"{images.info.name}: label {label} is {word(names[label])}, of {path} it is label "
            f"{own.index(names[label])}: the classes are in another order"
        )


def check_forward(model: nn.Module, info: DatasetInfo, path: Path) -> None:
    """Raises UserError for a network that cannot take the images at their size, or overflows."""
    with watched_layers(model, str(path)):
        show_black(model.eval(), info.image_shape, str(path))
