"""Networks that are folders: a configuration beside the weights, as Hugging Face's libraries write.

Nothing is fetched, and no code that a folder names is run.
"""

import hashlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diffsmooth.models.checkpoints.file_claims import check_file
from diffsmooth.models.checkpoints.metadata import CheckpointMetadata
from diffsmooth.models.checkpoints.reading import read_file
from diffsmooth.models.checkpoints.stored_networks import check_tensors, is_state_dict
from diffsmooth.models.checkpoints.weights import (
    Checkpoint,
    check_kind,
    check_weights,
    load_weights,
    refuse_misfits,
)
from diffsmooth.models.classifiers.hugging_face import (
    CONFIG,
    PROCESSORS,
    expected_size,
    processor_of,
    read_config,
    transformers_config,
)
from diffsmooth.models.diffusion.diffusers_unet import DiffusersDenoiser, Training
from diffsmooth.models.words import Convention
from diffsmooth.shown_text import quoted, word
from diffsmooth.stats.errors import UserError
from diffsmooth.whole_file import file_sha256

INDEX, SCHEDULER = "model_index.json", "scheduler_config.json"
# The library's first attention blocks called their layers so.
OLD_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def read_folder(folder: Path) -> Checkpoint:
    """The network of a folder of `diffusers`, `transformers` or timm.

    Raises:
        UserError: none of these, or what it holds does not fit together.
    """
    config = read_config(folder)
    if (folder / INDEX).is_file() or config.get("_class_name") == "UNet2DModel":
        return _diffusers(folder)
    if "model_type" in config:
        return _transformers(folder)
    if "architecture" in config:
        return _timm(folder, config)
    raise UserError(
        f"{folder}: a folder without a network that is known (its config.json is none of "
        "diffusers, transformers or timm): name the file in it"
    )


def folder_sha256(folder: Path) -> str:
    """Hex digest of all files of a folder that its network can depend on, with their names."""
    digest = hashlib.sha256()
    for path in _files(folder):
        digest.update(f"{path.relative_to(folder).as_posix()} {file_sha256(path)}\n".encode())
    return digest.hexdigest()


def _files(folder: Path) -> list[Path]:
    names = (CONFIG, INDEX, SCHEDULER, *PROCESSORS, "*.safetensors", "*.safetensors.index.json",
             "*.bin")  # fmt: skip
    places = (folder, folder / "unet", folder / "scheduler")
    return sorted({path for place in places for name in names for path in place.glob(name)})


def _weights_file(folder: Path, *names: str) -> Path:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise UserError(f"{folder}: holds no weights ({' or '.join(names)})")


def _weights_in(file: Path) -> dict[str, Tensor]:
    """The weights of a folder's file: nothing that runs code, whatever `--unsafe_load` says."""
    try:
        content = read_file(file)
    except UserError as error:
        if "--unsafe_load" not in str(error):
            raise
        content = None
    if not is_state_dict(content):
        raise UserError(
            f"{file}: holds more than weights: save the network's state dict there, or the folder "
            "anew as safetensors (save_pretrained)"
        )
    return content


def _diffusers(folder: Path) -> Checkpoint:
    unet, _ = _diffusers_configs(folder)
    file = _weights_file(unet, "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
    weights = {_new_name(key): value for key, value in _weights_in(file).items()}
    check_tensors(file, weights)
    return Checkpoint(folder, "Hugging Face diffusers", CheckpointMetadata("diffusers"), weights)


def _new_name(key: str) -> str:
    place, _, kind = key.rpartition(".")
    parent, _, name = place.rpartition(".")
    known = ".attentions." in f".{key}" and name in OLD_NAMES
    return f"{parent}.{OLD_NAMES[name]}.{kind}" if known else key


def _diffusers_configs(folder: Path) -> tuple[Path, Path]:
    """Where the network lies, and where its schedule."""
    index = read_config(folder, INDEX)
    parts = {name: part for name, part in index.items() if not name.startswith("_")}
    if {*parts} - {"unet", "scheduler"}:
        raise UserError(
            f"{folder}: a pipeline of {', '.join(map(word, sorted(parts)))}: one of unet and "
            "scheduler alone, on pixels, is wanted"
        )
    unet = folder if (folder / CONFIG).is_file() else folder / "unet"
    scheduler = folder if (folder / SCHEDULER).is_file() else folder / "scheduler"
    name = read_config(unet).get("_class_name")
    if name != "UNet2DModel":
        raise UserError(f"{unet}: holds a {quoted(name)}, a UNet2DModel is wanted")
    if not (scheduler / SCHEDULER).is_file():
        raise UserError(
            f"{folder}: holds no {SCHEDULER}: which noise the network was trained on is not known"
        )
    return unet, scheduler


def diffusers_denoiser(
    checkpoint: Checkpoint, convention: Convention = "diffsmooth", pad: str = "none"
) -> DiffusersDenoiser:
    """The denoiser of a folder of `diffusers`, in eval mode.

    Args:
        checkpoint: of the folder.
        convention: see `match_noise`.
        pad: none; images are not padded.

    Raises:
        UserError: `diffusers` is not installed; a network or a schedule that is not known, or
            weights that do not fit.
    """
    folder = checkpoint.path
    check_kind(checkpoint, "diffusers")
    if pad != "none":
        raise UserError(f"{folder}: --pad is for OpenAI's networks")
    try:
        from diffusers import UNet2DModel
    except ImportError as error:
        raise UserError(
            f"{folder}: needs diffusers: pip install 'diffsmooth[hf]' ({error})"
        ) from error
    unet, scheduler = _diffusers_configs(folder)
    config = read_config(unet)
    try:
        training = Training.from_config(read_config(scheduler, SCHEDULER))
        layers = config.get("layers_per_block", 2)
        if not isinstance(layers, int) or layers > len(checkpoint.state_dict):
            raise UserError(f"layers_per_block {quoted(layers)}: more than the weights have")
        with torch.device("meta"):
            outline: Any = UNet2DModel.from_config(config)
        check_weights(outline, checkpoint)
        network: Any = UNet2DModel.from_config(config)
        load_weights(network, checkpoint)
        return DiffusersDenoiser(network, training, convention).eval()
    except UserError as error:
        raise error if str(folder) in str(error) else UserError(f"{folder}: {error}") from error
    except (TypeError, ValueError, AttributeError, RuntimeError) as error:  # of the library
        raise UserError(f"{folder}: a network that cannot be built ({error})") from error


def _transformers(folder: Path) -> Checkpoint:
    config = transformers_config(folder)
    for index in sorted(folder.glob("*.safetensors.index.json")):
        _check_shards(folder, index.name)
    for file in sorted(folder.glob("*.safetensors")):
        check_file(file)
    from transformers import AutoModelForImageClassification

    how: dict[str, Any] = {"config": config, "output_loading_info": True, "dtype": torch.float32}
    pickled = folder / "pytorch_model.bin"
    try:
        with warnings.catch_warnings(), _quiet():
            warnings.simplefilter("ignore")
            if pickled.is_file() and not any(folder.glob("*.safetensors")):
                with torch.device("meta"):  # for its class
                    outline = AutoModelForImageClassification.from_config(config)
                # By ourselves: the library's way with such files is another in each version.
                weights = _weights_in(pickled)
                network, loaded = type(outline).from_pretrained(None, state_dict=weights, **how)
            else:
                network, loaded = AutoModelForImageClassification.from_pretrained(
                    folder, local_files_only=True, trust_remote_code=False, use_safetensors=True,
                    **how,
                )  # fmt: skip
    except UserError:
        raise
    except Exception as error:  # of the library, for what the files say
        raise UserError(f"{folder}: not a readable network ({_first_line(error)})") from error
    problems = [f"{key} is missing" for key in sorted(loaded["missing_keys"])]
    problems += [f"{word(key)} is not expected" for key in sorted(loaded["unexpected_keys"])]
    problems += [f"{word(str(key))} does not fit" for key in sorted(loaded["mismatched_keys"])]
    refuse_misfits(folder, problems)
    state: dict[str, Tensor] = {f"1.{key}": value for key, value in network.state_dict().items()}
    check_tensors(folder, state)
    processor, size = processor_of(folder), expected_size(folder)
    channels, told = getattr(config, "num_channels", 3), config.id2label
    if sorted(told) != list(range(config.num_labels)):
        raise UserError(f"{folder}: id2label does not name classes 0 to {config.num_labels - 1}")
    names = [str(told[label]) for label in range(config.num_labels)]

    def build(num_classes: int) -> nn.Module:
        if num_classes != config.num_labels:
            raise UserError(f"{folder}: has {config.num_labels} classes, not {num_classes}")
        return network

    metadata = CheckpointMetadata(
        "classifier",
        dataset=folder.name,
        arch=f"transformers {config.model_type}",
        input_layer="" if processor is None else processor.layer,
        image_shape=[] if size is None else [channels, *size],
        class_names=names,
    )
    _check(folder, metadata)
    return Checkpoint(folder, "Hugging Face transformers", metadata, state, build=build)


def _check_shards(folder: Path, index: str) -> None:
    """Raises UserError unless an index names files of the folder, which its digest covers."""
    shards = read_config(folder, index).get("weight_map")
    named = shards.values() if isinstance(shards, dict) else [shards]
    for name in named:
        own = isinstance(name, str) and name == Path(name).name and name.endswith(".safetensors")
        if not own or not (folder / str(name)).is_file():
            raise UserError(f"{folder / index}: names {quoted(name)}, no weights of this folder")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the library's bars and tables."""
    from transformers.utils import logging

    bar, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()


def _timm(folder: Path, config: dict[str, Any]) -> Checkpoint:
    """A folder of timm's for a hub: here the configuration is that of these very weights."""
    file = _weights_file(folder, "model.safetensors", "pytorch_model.bin")
    weights = {f"1.{key}": value for key, value in _weights_in(file).items()}
    check_tensors(file, weights)
    more = {*(config.get("model_args") or ())} - {"num_classes", "in_chans"}
    if more:
        raise UserError(
            f"{folder}: made with {', '.join(map(word, sorted(more)))} (model_args): build it "
            "yourself, and name it as package.module:factory"
        )
    try:
        trained = config.get("pretrained_cfg") or {}
        numbers = [*(trained.get("mean") or ()), *(trained.get("std") or ())]
        classes = config.get("num_classes", trained.get("num_classes", 0))
        names = config.get("label_names") or [str(label) for label in range(classes)]
        metadata = CheckpointMetadata(
            "classifier",
            dataset=folder.name,
            arch=str(config["architecture"]),
            input_layer=",".join(map(repr, numbers)),
            image_shape=list(trained.get("input_size") or ()),
            class_names=list(map(str, names)),
        )
    except (TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{folder}: a configuration that cannot be true ({error})") from error
    _check(folder, metadata)
    return Checkpoint(folder, "timm", metadata, weights)


def _check(folder: Path, metadata: CheckpointMetadata) -> None:
    try:
        metadata.check()
    except UserError as error:
        raise UserError(f"{folder}: a configuration that cannot be true ({error})") from error


def _first_line(error: Exception) -> str:
    lines: Iterator[str] = (line for line in str(error).splitlines() if line.strip())
    return f"{type(error).__name__}: {next(lines, '')}"
