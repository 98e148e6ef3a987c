"""Checkpoint files: the only torch.load of the project, and the writer of our own format."""

import argparse
import io
import pickletools
import re
import warnings
import zipfile
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from diffsmooth.models.dataset_info import DatasetInfo
from diffsmooth.whole_file import whole_file

METADATA_KEY = "diffsmooth"

# What old checkpoints hold beside tensors, and what cannot run code.
_numpy_scalar: Any = np._core.multiarray.scalar  # type: ignore[attr-defined]
HARMLESS: list[Any] = [
    argparse.Namespace,
    _numpy_scalar,
    (_numpy_scalar, "numpy.core.multiarray.scalar"),
    np.dtype,
    # All but objects and void: those can hold anything.
    *{type(np.dtype(code)) for code in np.typecodes["All"] if code not in "OV"},
]
# Beside HARMLESS, what torch's own loader takes.
ORDINARY = re.compile(
    r"torch\._utils\.\w+|torch\.(\w+Storage|Size|device|float\w*|half|double|bfloat16|u?int\d+|bool)"
    r"|collections\.OrderedDict|(builtins|__builtin__)\.(set|bytearray)|_codecs\.encode"
    r"|argparse\.Namespace|numpy\.(_core|core)\.multiarray\.scalar|numpy\.dtypes?(\.\w+)?"
)


class CheckpointMetadata(NamedTuple):
    """What a checkpoint says of its network; a field is empty where it does not say.

    Attributes:
        kind: "classifier" or "unet".
        dataset: name of what it was trained on.
        arch, input_layer, image_shape, class_names, mean, std: of a classifier; see `DatasetInfo`.
        sigma: of a classifier: its training noise (sigma'), [0, 1] pixel units; 0 for clean.
        purified_sigma: of a classifier trained on purified images: the noise level that was
            purified, before the training noise was added.
        preset, overrides: of a U-Net: its architecture.
        max_sigma: of a U-Net: the largest noise level it was trained for; None: its schedule's.
    """

    kind: str
    dataset: str = ""
    arch: str = ""
    input_layer: str = ""
    image_shape: list[int] = []
    class_names: list[str] = []
    mean: list[float] = []
    std: list[float] = []
    sigma: float | None = None
    preset: str = ""
    overrides: dict[str, Any] = {}
    max_sigma: float | None = None
    purified_sigma: float | None = None

    def check(self) -> None:
        """Raises ValueError unless the fields are of their kinds: they come from a file."""
        if self.kind not in ("classifier", "unet"):
            raise ValueError(f"of unknown kind {self.kind!r}")
        for name in ("dataset", "arch", "input_layer", "preset"):
            if not isinstance(getattr(self, name), str):
                raise ValueError(f"{name} is not a word")
        for name, item in (
            ("image_shape", int),
            ("class_names", str),
            ("mean", float),
            ("std", float),
        ):
            value = getattr(self, name)
            if not isinstance(value, list) or not all(isinstance(v, item) for v in value):
                raise ValueError(f"{name} is not a list of {item.__name__}")
        if len(self.image_shape) not in (0, 3):
            raise ValueError("image_shape is not (C, H, W)")
        if not isinstance(self.overrides, dict):
            raise ValueError("overrides is not a mapping")
        for name in ("sigma", "max_sigma", "purified_sigma"):
            if not isinstance(getattr(self, name), int | float | None):
                raise ValueError(f"{name} is not a number")

    @property
    def dataset_info(self) -> DatasetInfo | None:
        """Of a classifier: the facts of what it was trained on, None where it does not say."""
        if not self.image_shape:
            return None
        channels, height, width = self.image_shape
        return DatasetInfo(
            self.dataset,
            (channels, height, width),
            tuple(self.class_names),
            tuple(self.mean),
            tuple(self.std),
        )


class Checkpoint(NamedTuple):
    """A checkpoint's content.

    Attributes:
        path: where it lies.
        family: who writes such files, in words.
        metadata: what it says of itself.
        state_dict: the network's weights, keys as in `build_classifier` or `build_unet`.
        epoch: number of the last epoch of training; -1 where it does not say.
        resumable: whether training can go on from it.
    """

    path: Path
    family: str
    metadata: CheckpointMetadata
    state_dict: dict[str, Tensor]
    epoch: int = -1
    resumable: bool = False


def read_file(path: Path | str, unsafe: bool = False) -> Any:
    """The content of a checkpoint file, on the CPU.

    Args:
        path: the file; of safetensors if it is called so, else of torch.save.
        unsafe: run the code that the file may hold; for files of your own only.

    Raises:
        ValueError: missing, empty or broken; or it would run code, which the message names.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: {'a folder' if path.is_dir() else 'no such checkpoint'}")
    if unsafe:
        warnings.warn(f"{path}: loading runs whatever code the file holds", stacklevel=2)
    try:
        with torch.serialization.safe_globals(HARMLESS), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Detected pickle protocol")
            if _is_safetensors(path):
                return safetensors.torch.load_file(path)
            return torch.load(
                path, map_location="cpu", weights_only=not unsafe, mmap=_can_be_mapped(path)
            )
    except Exception as error:  # unpickling a broken file can raise anything
        if not unsafe:
            wanted = _forbidden_global(path, error)
            if wanted:
                raise ValueError(
                    f"{path}: refused, it would run {wanted}; "
                    "--unsafe_load runs it, if you trust the file's author"
                ) from error
            if "Unsupported operand" in str(error):
                raise ValueError(
                    f"{path}: not a readable checkpoint (a pickle protocol that cannot be read "
                    "safely: save it with torch's default one, or --unsafe_load)"
                ) from error
        cause = f": {error}" if unsafe else ""
        raise ValueError(
            f"{path}: not a readable checkpoint ({type(error).__name__}{cause})"
        ) from error


def _is_safetensors(path: Path) -> bool:
    """By the content: the length of a JSON header, and its first character."""
    with open(path, "rb") as file:
        start = file.read(9)
    return start[8:] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size


def _can_be_mapped(path: Path) -> bool:
    """Whether the ranks of a host can share one copy of the file in memory.

    Not files from before torch 1.6, nor compressed ones: torch would take their bytes as weights.
    """
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return all(member.compress_type == zipfile.ZIP_STORED for member in archive.infolist())


def _forbidden_global(path: Path, error: Exception) -> str | None:
    """What a refused pickle would call, in torch's words or else by reading it without running."""
    named = re.search(r"GLOBAL (\S+)", str(error))
    if named:
        return named.group(1)
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                names = [name for name in archive.namelist() if name.endswith("data.pkl")]
                streams: list[IO[bytes]] = [io.BytesIO(archive.read(name)) for name in names]
        else:
            streams = [io.BytesIO(path.read_bytes())]
    except (OSError, RuntimeError, zipfile.BadZipFile):
        return None
    found = [name for stream in streams for name in _globals_of(stream)]
    return next((name for name in found if not ORDINARY.fullmatch(name)), None)


def _globals_of(stream: IO[bytes]) -> list[str]:
    """Names of the globals of the pickles in a stream, one behind the other."""
    found: list[str] = []
    strings: list[str] = []  # as pushed: STACK_GLOBAL takes the last two, module and name
    memo: list[str] = []
    last: str | None = None  # what the last opcode pushed, where that was a string
    try:
        while True:
            for opcode, argument, _ in pickletools.genops(stream):
                if opcode.name == "MEMOIZE":
                    memo.append(last or "")
                    continue
                if opcode.name == "GLOBAL":
                    found.append(str(argument).replace(" ", "."))
                elif opcode.name == "STACK_GLOBAL" and len(strings) >= 2:
                    found.append(f"{strings[-2]}.{strings[-1]}")
                last = argument if isinstance(argument, str) else None
                if opcode.name in ("BINGET", "LONG_BINGET"):
                    last = memo[int(str(argument))]
                if last:
                    strings.append(last)
    except Exception:  # the end of the pickles, or of what is one
        return found


def write_checkpoint(
    path: Path | str, metadata: CheckpointMetadata, state_dict: dict[str, Tensor], epoch: int = 0
) -> None:
    """Writes weights and metadata, whole or not at all.

    The file has the keys `epoch`, `arch` and `state_dict` of the field's classifier checkpoints,
    and one more for the metadata.
    """
    plain = _classifier_file(metadata.arch or metadata.preset, state_dict, epoch)
    _write(Path(path), {**plain, METADATA_KEY: metadata._asdict()})


def write_plain(
    path: Path | str, metadata: CheckpointMetadata, state_dict: dict[str, Tensor], epoch: int = 0
) -> None:
    """Writes weights as the field publishes them, whole or not at all, without the metadata.

    Of a U-Net: the bare state dict, as OpenAI's. Of a classifier: `{epoch, arch, state_dict}`, as
    Cohen et al. 2019's.
    """
    is_unet = metadata.kind == "unet"
    content = state_dict if is_unet else _classifier_file(metadata.arch, state_dict, epoch)
    _write(Path(path), content)


def _classifier_file(arch: str, state_dict: dict[str, Tensor], epoch: int) -> dict[str, Any]:
    return {"epoch": epoch, "arch": arch, "state_dict": state_dict}


def _write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as partial:
        torch.save(content, partial)


def load_weights(model: nn.Module, checkpoint: Checkpoint) -> None:
    """Loads a checkpoint's weights into a network.

    Raises:
        ValueError: see `check_weights`.
    """
    check_weights(model, checkpoint)
    model.load_state_dict(checkpoint.state_dict)


def check_weights(model: nn.Module, checkpoint: Checkpoint) -> None:
    """Checks that a checkpoint's weights fit a network exactly.

    Raises:
        ValueError: they do not; the first keys that do not fit are named.
    """
    problems = misfits(model, checkpoint.state_dict)
    if problems:
        more = f", and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise ValueError(f"{checkpoint.path}: weights do not fit: {'; '.join(problems[:3])}{more}")


def misfits(model: nn.Module, weights: dict[str, Tensor]) -> list[str]:
    """What does not fit between weights and a network, in words, one a key."""
    wanted = model.state_dict()
    problems = [f"{key} is missing" for key in wanted if key not in weights]
    problems += [f"{key} is not expected" for key in weights if key not in wanted]
    problems += [
        f"{key} is {tuple(weights[key].shape)}, not {tuple(value.shape)}"
        for key, value in wanted.items()
        if key in weights and weights[key].shape != value.shape
    ]
    return problems
