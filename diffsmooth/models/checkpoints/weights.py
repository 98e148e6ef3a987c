"""A checkpoint's content: how its weights fit a network, and the writer of our own format."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from diffsmooth.models.checkpoints.key_names import unprefixed, unwrapped
from diffsmooth.models.checkpoints.metadata import METADATA_KEY, CheckpointMetadata
from diffsmooth.models.checkpoints.saving import alone, save_whole
from diffsmooth.models.checkpoints.training_images import IMAGES_KEY, TrainingImages
from diffsmooth.models.classifiers.architectures import Classifier
from diffsmooth.shown_text import word
from diffsmooth.stats.errors import UserError

COUNTER = ".num_batches_tracked"


class Checkpoint(NamedTuple):
    """A checkpoint's content.

    Attributes:
        path: where it lies.
        family: who writes such files, in words.
        metadata: what it says of its network.
        state_dict: the network's weights, keys as in `build_classifier` or `build_unet`.
        epoch: number of the last epoch of training; -1 where it does not say.
        resumable: whether training can go on from it.
        set_key, note: see `WeightSet`.
        images: which images trained it, None where the file does not say; see `training_images_of`.
        training: the entries `TRAINING_KEYS` of the file, those that it has.
        build: from the number of classes to the network, where it comes as a whole rather than as
            the name of an architecture; `state_dict` is loaded into it, if there is one.
    """

    path: Path
    family: str
    metadata: CheckpointMetadata
    state_dict: dict[str, Tensor]
    epoch: int = -1
    resumable: bool = False
    set_key: str = ""
    note: str = ""
    images: TrainingImages | None = None
    training: Mapping[str, Any] = {}
    build: Callable[[int], nn.Module] | None = None


def write_checkpoint(
    path: Path | str,
    metadata: CheckpointMetadata,
    state_dict: dict[str, Tensor],
    epoch: int = 0,
    images: TrainingImages | None = None,
) -> None:
    """Writes weights and metadata, whole or not at all.

    The file has the keys `epoch`, `arch` and `state_dict` of the field's classifier checkpoints,
    one more for the metadata, and one for the record of the training's images, if there is one.
    """
    content = {
        "epoch": epoch, "arch": metadata.arch or metadata.preset, "state_dict": alone(state_dict),
        METADATA_KEY: metadata._asdict(),
    }  # fmt: skip
    if images is not None:
        content[IMAGES_KEY] = images._asdict()
    save_whole(Path(path), content)


def check_kind(checkpoint: Checkpoint, kind: str) -> None:
    """Raises UserError for a checkpoint of another kind of network."""
    if checkpoint.metadata.kind != kind:
        raise UserError(
            f"{checkpoint.path}: holds a {checkpoint.metadata.kind}, a {kind} is wanted"
        )


def load_weights(model: nn.Module, checkpoint: Checkpoint) -> None:
    """Loads a checkpoint's weights into a network; raises UserError as `check_weights`."""
    check_weights(model, checkpoint)
    model.load_state_dict(named_as(model, checkpoint.state_dict))


def check_weights(model: nn.Module, checkpoint: Checkpoint) -> None:
    """Raises UserError, with the first keys that do not fit, unless all weights fit a network."""
    problems = misfits(model, checkpoint.state_dict)
    if isinstance(model, Classifier):  # its 0 is the input layer, of which the file's author knows
        problems = [problem.removeprefix("1.") for problem in problems]  # nothing
    refuse_misfits(checkpoint.path, problems)


def refuse_misfits(path: Path, problems: list[str]) -> None:
    """Raises UserError, with the first of them, if there are problems with a file's weights."""
    if problems:
        more = f", and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise UserError(f"{path}: weights do not fit: {'; '.join(problems[:3])}{more}")


def misfits(model: nn.Module, weights: dict[str, Tensor]) -> list[str]:
    """What does not fit between weights and a network, in words, one a key."""
    wanted = model.state_dict()
    weights = named_as(model, weights)
    problems = [f"{key} is missing" for key in wanted if key not in weights]
    problems += [f"{word(key)} is not expected" for key in weights if key not in wanted]
    for key, value in wanted.items():
        if key not in weights:
            continue
        given = weights[key]
        if given.shape != value.shape:
            problems.append(f"{key} is {tuple(given.shape)}, not {tuple(value.shape)}")
        elif given.is_floating_point() != value.is_floating_point() and not _counts(key):
            problems.append(f"{key} is of {_type(given)}, not of {_type(value)}")
    return problems


def named_as(model: nn.Module, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights under the network's own names, and with the counters of batches, which torch
    before 0.4.1 did not write and nothing reads in eval mode."""
    own = model.state_dict()
    known, given = unwrapped(own), unwrapped(weights)
    if not {*given.values()} & {*known.values()}:  # the file's lost a level that all share
        behind = "1." if all(name.startswith("1.") for name in given.values()) else ""
        known = {name: behind + plain for name, plain in unprefixed(known).items()}
    names = {plain: name for name, plain in known.items()}
    named = {names.get(plain, name): weights[name] for name, plain in given.items()}
    for key in own:
        statistics = key.removesuffix(COUNTER) + ".running_mean"
        if _counts(key) and key not in named and statistics in named:
            named[key] = torch.tensor(0)
    return named


def _counts(key: str) -> bool:
    return key.endswith(COUNTER)


def _type(value: Tensor) -> str:
    return str(value.dtype).removeprefix("torch.")


def network_sha256(name: str, network: object) -> str:
    """Hex digest of a network's name and, if it is a module, of all its parameters and buffers.

    Those buffers, too, that its state dict leaves out, such as an input layer's constants.

    Args:
        name: says what the weights alone do not.
        network: a module, or any other callable, which has no state.
    """
    digest = hashlib.sha256(name.encode())
    if isinstance(network, nn.Module):
        state = {**dict(network.named_parameters()), **dict(network.named_buffers())}
        for key, value in sorted(state.items()):
            digest.update(f"\n{key} {value.dtype} {tuple(value.shape)}\n".encode())
            dense = value.detach().to_dense().cpu().reshape(-1)
            digest.update(dense.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
