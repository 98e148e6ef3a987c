"""Whose checkpoint is it? From a file's content to weights with our keys."""

import re
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from diffsmooth.models.checkpoints.file_claims import check_source
from diffsmooth.models.checkpoints.folders import read_folder
from diffsmooth.models.checkpoints.key_names import by_first_level, without_wrappers
from diffsmooth.models.checkpoints.metadata import TRAINING_KEYS
from diffsmooth.models.checkpoints.reading import ExportedModule, read_file
from diffsmooth.models.checkpoints.stored_networks import check_tensors, is_state_dict
from diffsmooth.models.checkpoints.told_classes import told_classes
from diffsmooth.models.checkpoints.training_images import IMAGES_KEY, TrainingImages
from diffsmooth.models.checkpoints.weight_sets import LIGHTNING_RAW, choose_set, note_of_two
from diffsmooth.models.checkpoints.weights import (
    METADATA_KEY,
    Checkpoint,
    CheckpointMetadata,
    misfits,
)
from diffsmooth.models.classifiers.dataset_info import CIFAR10
from diffsmooth.models.diffusion.openai import build_unet
from diffsmooth.models.diffusion.presets import PRESETS
from diffsmooth.models.words import SetName
from diffsmooth.shown_text import is_word, quoted, word
from diffsmooth.stats.errors import UserError
from diffsmooth.stats.registry import names_code

OURS = ("train.py", "diffsmooth export")  # the families of our own files
IMAGENET32 = "imagenet32_resnet110"  # SmoothAdv's name of a cifar_resnet110, 1,000 classes
UNET_KEY = "input_blocks.0.0.weight"


def read_checkpoint(
    path: Path | str, unsafe: bool = False, weights: SetName | None = None
) -> Checkpoint:
    """Reads a checkpoint of ours or of the field.

    Known are: Lightning checkpoints of train.py and what `write_checkpoint` wrote; `{arch,
    state_dict, ...}` of Cohen et al. 2019, Salman et al. 2019 and DiffSmooth; `{net, epoch}` of
    MACER (Zhai et al. 2020); other files with weights under a known name, see `HOLDERS`; bare state
    dicts, such as OpenAI's diffusion models and timm's. Names may carry what wrappers of modules
    put into them, and one prefix.

    Args:
        path, unsafe: see `read_file`.
        weights: which of two sets, of a file that has them: as trained (raw) or averaged (ema);
            None takes the averaged ones, and `Checkpoint.note` says so.

    Raises:
        UserError: see `read_file`, `choose_set` and `check_tensors`; or not a checkpoint; or one of
            a class-conditional U-Net.
    """
    path = Path(path)
    if weights not in (None, *get_args(SetName)):
        raise UserError(f"weights must be raw or ema, got {weights!r}")
    if path.is_dir():
        check_source(path)
        if weights:
            raise UserError(f"{path}: --weights {weights}, but a folder holds one set of weights")
        return read_folder(path)
    content = read_file(path, unsafe)
    ours = isinstance(content, dict) and METADATA_KEY in content
    checkpoint = (_ours if ours else _foreign)(path, content, weights)
    if names_code(checkpoint.metadata.arch):  # users name code that is to be run, files do not
        checkpoint = checkpoint._replace(metadata=checkpoint.metadata._replace(arch=""))
    return checkpoint


def _ours(path: Path, content: dict[str, Any], wanted: SetName | None) -> Checkpoint:
    try:
        said = content[METADATA_KEY]
        if not isinstance(said, dict):
            raise UserError("its metadata are no mapping")
        unknown = [word(str(name)) for name in said if name not in CheckpointMetadata._fields]
        if unknown:
            raise UserError(f"metadata that we do not know: {', '.join(unknown[:5])}")
        if "kind" not in said:
            raise UserError("its metadata do not say of what kind it is")
        metadata = CheckpointMetadata(**said)
        metadata.check()
        epoch = content.get("epoch")
        if not isinstance(epoch, int) or not -1 <= epoch < 10**9:
            raise UserError(f"epoch is no number: {quoted(epoch)}")
        record = content.get(IMAGES_KEY)
        images = None if record is None else TrainingImages.from_stored(record)
    except UserError as error:
        raise UserError(f"{path}: a broken checkpoint ({error})") from error
    key, note = "state_dict", ""
    if LIGHTNING_RAW in content:
        key = LIGHTNING_RAW if wanted == "raw" else key
        note = note_of_two(path, LIGHTNING_RAW, "state_dict", wanted)
    elif wanted:
        raise UserError(f"{path}: --weights {wanted}, but it holds one set of weights")
    if not is_state_dict(content.get(key)):
        raise UserError(f"{path}: a broken checkpoint (its {key} holds no weights)")
    weights = without_wrappers(content[key])
    check_tensors(path, weights)
    # Lightning prefixes the keys with the attribute's name in the training module.
    weights = by_first_level(weights).get(metadata.kind, weights)
    family = OURS["optimizer_states" not in content]
    # Without one of them Lightning fails, or begins the optimizer anew without a word.
    loops = content.get("loops")
    resumable = (
        all(content.get(part) for part in ("optimizer_states", "pytorch-lightning_version"))
        and "lr_schedulers" in content
        and isinstance(loops, dict)
        and "fit_loop" in loops
    )
    set_key = key if key == LIGHTNING_RAW else ""
    training = {name: content[name] for name in TRAINING_KEYS if name in content}
    return Checkpoint(
        path, family, metadata, weights, epoch, resumable, set_key, note, images, training
    )


def _foreign(path: Path, content: Any, wanted: SetName | None) -> Checkpoint:
    if isinstance(content, nn.Module):  # which only unsafe loading gives
        wrapped = isinstance(content, nn.DataParallel | DistributedDataParallel)
        module: Any = content.module if wrapped else content
        module = module if isinstance(module, ExportedModule) else module.float()
        name = f"{type(content).__module__}.{type(content).__qualname__}"
        metadata = CheckpointMetadata("classifier", arch=name, input_layer="none")
        names, problem = _classes(vars(module))
        note = f"{path}: {problem}" if problem else ""
        metadata = metadata._replace(class_names=names)
        check_tensors(path, module.state_dict())
        return Checkpoint(path, "a whole module", metadata, {}, note=note, build=lambda _: module)
    taken = choose_set(path, content, wanted)
    weights, epoch, problem = taken.weights, -1, ""
    check_tensors(path, weights)
    family, metadata = "a bare state dict", CheckpointMetadata("classifier")
    if not is_state_dict(content):
        family, metadata = _describe_classifier(content)
        names, problem = _classes(content)
        metadata = metadata._replace(class_names=names)
        number = content.get("epoch")
        epoch = number if isinstance(number, int) and 0 <= number < 10**9 else -1
    if UNET_KEY in weights:
        family, metadata = "OpenAI or the like", _describe_unet(path, weights)
    else:
        weights = {f"1.{key}": value for key, value in weights.items()}  # 0 is the input layer
        if metadata.arch.startswith("beit") or not metadata.arch:
            # timm had this table as a buffer once; it is a function of the image's size.
            weights = {k: v for k, v in weights.items() if "relative_position_index" not in k}
        if not metadata.arch:
            metadata = metadata._replace(arch=_cifar_architecture(weights))
    note = taken.note
    if problem:
        note = f"{note}; {problem}" if note else f"{path}: {problem}"
    return Checkpoint(path, family, metadata, weights, epoch, set_key=taken.key, note=note)


def _classes(content: dict[str, Any]) -> tuple[list[str], str]:
    """The names of the classes, or why they are not taken: they contradict each other."""
    try:
        return told_classes(content), ""
    except UserError as error:
        return [], f"{error}, so that names of classes are not taken from it"


def _describe_classifier(content: dict[str, Any]) -> tuple[str, CheckpointMetadata]:
    """Who writes such files, and what they say of a classifier."""
    if "pytorch-lightning_version" in content:
        return "PyTorch Lightning", CheckpointMetadata("classifier")
    if set(content) == {"net", "epoch"}:
        # MACER's code normalises nothing, but it is not alone in writing such files.
        return "MACER or the like", CheckpointMetadata("classifier")
    arch = content.get("arch")
    if not isinstance(arch, str) or not is_word(arch) or "state_dict" not in content:
        return "unknown code", CheckpointMetadata("classifier")
    layer = "0.5,0.5" if arch.startswith("beit_") else ""  # as DiffSmooth's code has it
    if arch == IMAGENET32:
        # code/datasets.py and code/architectures.py of Hadisalman/smoothing-adversarial: CIFAR-10's
        # constants, and no centering layer for such images.
        layer = ",".join(f"{number:g}" for number in (*CIFAR10.mean, *CIFAR10.std))
        arch = "cifar_resnet110"
    family = "Cohen et al., SmoothAdv, DiffSmooth or the like"
    return family, CheckpointMetadata("classifier", arch=arch, input_layer=layer)


def _describe_unet(path: Path, weights: dict[str, Tensor]) -> CheckpointMetadata:
    if "label_emb.weight" in weights:
        raise UserError(
            f"{path}: a class-conditional diffusion model (it has label_emb.weight); "
            "the unconditional one is wanted, such as 256x256_diffusion_uncond.pt"
        )
    for name in PRESETS:
        with torch.device("meta"):
            unet = build_unet(name)
        if not misfits(unet, weights):
            return CheckpointMetadata("unet", preset=name)
    return CheckpointMetadata("unet")


def _cifar_architecture(weights: dict[str, Tensor]) -> str:
    """cifar_resnetD where the keys and the first layer's width are such a network's, else ""."""
    first = weights.get("1.conv1.weight")
    blocks = {int(m.group(1)) for key in weights if (m := re.match(r"1\.layer1\.(\d+)\.", key))}
    if first is None or first.ndim != 4 or len(first) != 16 or "1.layer4.0.conv1.weight" in weights:
        return ""
    return f"cifar_resnet{6 * len(blocks) + 2}"
