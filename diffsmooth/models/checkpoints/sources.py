"""What a user names a classifier by: a file, a folder, or code of their own."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from torch import nn

from diffsmooth.models.checkpoints.file_claims import check_source
from diffsmooth.models.checkpoints.folders import folder_sha256
from diffsmooth.models.checkpoints.formats import OURS, read_checkpoint
from diffsmooth.models.checkpoints.loading import whole_classifier
from diffsmooth.models.checkpoints.metadata import CheckpointMetadata
from diffsmooth.models.checkpoints.weights import Checkpoint, network_sha256
from diffsmooth.models.classifiers.architectures import network_factory
from diffsmooth.stats.errors import UserError
from diffsmooth.stats.registry import is_code
from diffsmooth.whole_file import file_sha256


def read_classifier(source: str, weights: str | None = None, unsafe: bool = False) -> Checkpoint:
    """The classifier that a user names, on the CPU.

    Args:
        source: a file or a folder, see `read_checkpoint`; or package.module:factory, a function
            that gives a network for images in [0, 1]. It is called with the number of classes
            where it has a parameter without a default. That is its author's code.
        weights: raw or ema, of a file that has both; or, of code, the file of its weights, whose
            input layer stands in front of the network only where the file states one, as ours do.
        unsafe: see `read_file`.

    Raises:
        UserError: see `read_checkpoint`; or `weights` that are not of this source.
    """
    check_source(source, weights)
    if not is_code(source):
        chosen: Any = weights
        return read_checkpoint(source, unsafe, chosen)
    build = _builder(source)
    if weights is None:
        metadata = CheckpointMetadata("classifier", arch=source, input_layer="none")
        return Checkpoint(Path(source), "code", metadata, {}, build=build)
    file = read_checkpoint(weights, unsafe)
    if file.build is not None and not file.state_dict:
        raise UserError(f"{weights}: holds a whole module: save its state dict as the weights")
    # What a field's file has by its form is of another network, which normalises outside of it.
    layer = file.metadata.input_layer if file.family in OURS else ""
    metadata = file.metadata._replace(arch=source, input_layer=layer or "none")
    return file._replace(metadata=metadata, build=build)


@lru_cache(maxsize=1)
def _builder(source: str) -> Callable[[int], nn.Module]:
    factory = network_factory(source)

    # Once a process: the weights that identify a run are those that vote.
    @lru_cache(maxsize=1)
    def build(num_classes: int) -> nn.Module:
        return factory(num_classes).eval()

    return build


def classifier_sha256(source: str, checkpoint: Checkpoint, num_classes: int) -> str:
    """What a run's identity holds of a classifier.

    Of a file or a folder the digest of its content; of code that of its name, and of all that its
    network holds with its weights loaded.
    """
    if not is_code(source):
        return path_sha256(Path(source))
    return network_sha256(source, whole_classifier(checkpoint, num_classes, nn.Identity()))


def path_sha256(path: Path) -> str:
    """Hex digest of a file, or of what a folder's network depends on."""
    return folder_sha256(path) if path.is_dir() else file_sha256(path)
