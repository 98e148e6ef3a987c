"""Files that are damaged, foreign or made to harm: one line each, before anything large is made."""

import json
import os
import pickle
import struct
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from diffsmooth.models import build_classifier, load_classifier, load_unet
from diffsmooth.models.checkpoints.formats import read_checkpoint
from diffsmooth.models.checkpoints.loading import classifier_of
from diffsmooth.models.checkpoints.weights import CheckpointMetadata
from diffsmooth.stats.errors import UserError

STATE = build_classifier("cifar_resnet8", 10, "none")[1].state_dict()


def refused(path: Path, message: str, read: Callable[[Path], Any] = read_checkpoint) -> None:
    start = time.process_time()
    with pytest.raises(UserError, match=message) as error:
        read(path)
    assert time.process_time() - start < 60  # a bomb would take many minutes, or all memory
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert str(error.value).isprintable()


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def torch_script(path: Path) -> None:
    torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)), path)


FOREIGN = {
    "keras.h5": lambda p: p.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100)),
    "model.keras": lambda p: zipped(p, {"config.json": b"{}", "model.weights.h5": b"x"}),
    "a.npy": lambda p: np.save(p, np.ones(3)),
    "a.npz": lambda p: np.savez(p, w=np.ones(3)),
    "a.gz": lambda p: p.write_bytes(b"\x1f\x8b\x08" + bytes(30)),
    "a.onnx": lambda p: p.write_bytes(b"\x08\x08\x12\x07pytorch\x1a\x032.0" + bytes(50)),
    "renamed_onnx.pt": lambda p: p.write_bytes(b"\x08\x08\x12\x07pytorch\x1a\x032.0" + bytes(50)),
    "model.gguf": lambda p: p.write_bytes(b"GGUF" + bytes(30)),
    "page.pt": lambda p: p.write_bytes(b"\n<!DOCTYPE html><html>404</html>"),
    "lfs.pt": lambda p: p.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid x\n"),
    "index.json": lambda p: p.write_text(json.dumps({"weight_map": {}})),
    "model.ckpt.index": lambda p: p.write_bytes(bytes(50)),
    "model.ckpt.data-00000-of-00001": lambda p: p.write_bytes(bytes(50)),
    "code.zip": lambda p: zipped(p, {"checkpoint.pt": b"x"}),
    "mine.py": lambda p: p.write_text("class Klein(nn.Module):\n    pass\n"),
    "imports.py": lambda p: p.write_text("import torch\nfrom torch import nn\n"),
    "renamed_py.pt": lambda p: p.write_text("class Klein(nn.Module):\n    pass\n"),
    "run.yaml": lambda p: p.write_text("classifier: c.pt\nsigma: 0.5\n"),
    "images.csv": lambda p: p.write_text("idx,label\n0,1\n"),
    "table.pt": lambda p: p.write_text("idx\tlabel\tpredict\n0\t1\t1\n"),
    "words.pt": lambda p: p.write_text(200 * "Gr\u00f6\u00dfe "),  # cut within a letter
    "missing.pt": lambda p: p.write_text("Not Found"),
    "head.pt": lambda p: p.write_bytes(b"<head><title>404</title></head>"),
    "comment.pt": lambda p: p.write_bytes(b"<!-- 404 --><html></html>"),
}
SAYS = {
    "keras.h5": "HDF5", "model.keras": "Keras", "a.npy": "NumPy array", "a.npz": "NumPy arrays",
    "a.gz": "unpack it", "a.onnx": "ONNX", "renamed_onnx.pt": "ONNX", "model.gguf": "GGUF",
    "page.pt": "web page", "lfs.pt": "git lfs pull", "index.json": "JSON",
    "model.ckpt.index": "TensorFlow", "model.ckpt.data-00000-of-00001": "TensorFlow",
    "code.zip": "not of torch.save",
    "mine.py": "Python source: name a network in it as mine:NAME, in the folder of mine.py",
    "imports.py": "Python source", "renamed_py.pt": "a text, 'class Klein",
    "run.yaml": "a YAML text: a command's options go with --config",
    "images.csv": "a text, 'idx,label'", "table.pt": r"a text, 'idx\\tlabel",
    "words.pt": "a text, 'Gr", "missing.pt": "a text, 'Not Found'", "head.pt": "web page",
    "comment.pt": "web page",
}  # fmt: skip


@pytest.mark.parametrize("name", FOREIGN)
def test_files_of_other_programs_are_named(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    FOREIGN[name](path)
    refused(path, f"not a readable checkpoint .*{SAYS[name]}")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_torch_script_program_is_named(tmp_path: Path) -> None:
    torch_script(tmp_path / "c.pt")
    refused(tmp_path / "c.pt", "TorchScript")


def test_a_tar_archive_is_named(tmp_path: Path) -> None:
    import tarfile

    torch.save(STATE, tmp_path / "c.pt")
    with tarfile.open(tmp_path / "c.pth.tar", "w") as archive:
        archive.add(tmp_path / "c.pt", "c.pt")
    refused(tmp_path / "c.pth.tar", "a tar archive: unpack it")


def test_a_pickle_that_is_text_is_one(tmp_path: Path) -> None:
    weights = np.ones(2).tolist()
    (tmp_path / "c.pt").write_bytes(pickle.dumps({"w": weights}, protocol=0))
    refused(tmp_path / "c.pt", "holds no weights|not a readable checkpoint .*pickle")
    (tmp_path / "d.pt").write_bytes(pickle.dumps(print, protocol=0))
    refused(tmp_path / "d.pt", "refused, it would run")


def test_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "c.pt")
    refused(tmp_path / "c.pt", "no regular file")


def test_a_flipped_bit_is_found_by_the_checksum(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    torch.save({"state_dict": STATE}, path)
    with zipfile.ZipFile(path) as archive:
        record = max(archive.infolist(), key=lambda member: member.file_size)
    content = bytearray(path.read_bytes())
    content[record.header_offset + 400] ^= 1  # a weight's low bit: no one would see it
    path.write_bytes(content)
    assert torch.load(path, weights_only=True)  # torch does not
    refused(path, f"damaged: the checksum of '{record.filename}'")


def rewritten(path: Path, change: Callable[[str, bytes], bytes]) -> None:
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    zipped(path, {name: change(name, content) for name, content in members.items()})


def test_a_record_that_is_shorter_than_its_tensor_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    torch.save(STATE, path)
    # Its neighbours' bytes would be taken for weights.
    rewritten(path, lambda name, content: content[:-64] if name.endswith("data/0") else content)
    refused(path, "not a readable checkpoint")


def test_a_data_pkl_of_gigabytes_is_refused_by_its_header(tmp_path: Path) -> None:
    path = zipped(tmp_path / "c.pt", {"c/data.pkl": bytes(2**23), "c/data/0": b"x"})
    refused(path, "its data.pkl has 8,388,608 bytes: more than 1 tensor can need")
    content = path.read_bytes()
    # A directory that claims 4 GiB of it, stored, where the file has 8 MiB.
    directory = content.rindex(b"PK\1\2", 0, content.rindex(b"PK\1\2"))
    claimed = bytearray(content)
    claimed[directory + 20 : directory + 28] = struct.pack("<II", 2**32 - 2, 2**32 - 2)
    path.write_bytes(claimed)
    refused(path, "its data.pkl has 4,294,967,294 bytes")


def test_a_record_that_claims_more_than_the_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("c/data.pkl", b"x")
        archive.writestr("c/data/0", bytes(2**26))
    refused(path, "'c/data/0' claims 67,108,864 bytes")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_members_of_one_name_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    torch.save(STATE, path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(archive.namelist()[0], b"x")
    refused(path, "the same name")


def test_large_pickles_of_the_old_form_are_not_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    path.write_bytes(pickle.dumps([[]] * (6 * 2**20), protocol=2))
    refused(path, "its pickles are larger than weights need")
    with open(path, "wb") as file:  # a text that claims a terabyte
        file.write(b"\x80\x04\x8d" + struct.pack("<Q", 2**40))
    refused(path, "its pickles are larger than weights need")
    content = {str(i): torch.zeros(1) for i in range(3000)}
    torch.save({"model": content}, path, _use_new_zipfile_serialization=False)
    assert len(read_checkpoint(path).state_dict) == 3000


class _Bytes:
    def __reduce__(self) -> tuple[type, tuple[int]]:
        return bytearray, (2**45,)


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("new", [True, False])
def test_a_bytearray_of_any_size_is_not_made(new: bool, protocol: int, tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    content = {"state_dict": STATE, "x": _Bytes()}
    torch.save(content, path, pickle_protocol=protocol, _use_new_zipfile_serialization=new)
    refused(path, "it makes a bytearray")


def safetensors(path: Path, header: bytes, body: bytes = b"", length: int | None = None) -> Path:
    size = len(header) if length is None else length
    path.write_bytes(struct.pack("<Q", size) + header + body)
    return path


def test_safetensors_headers_are_bounded(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    entry = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    assert read_checkpoint(safetensors(path, entry, bytes(4))).state_dict["1.a"].tolist() == [0.0]
    refused(safetensors(path, entry, length=2**50), "its header claims 1,125,899,906,842,624 byt")
    refused(safetensors(path, b"{" + b" " * 2**25), "its header has 33,554,433 bytes")
    deep = b'{"__metadata__":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001
    refused(safetensors(path, deep), "not a readable checkpoint")
    refused(safetensors(path, b'{"a":' + b"[" * 100_000), "not a readable checkpoint")
    petabyte = b'{"a":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4000000000000]}}'
    refused(safetensors(path, petabyte, bytes(4)), "not a readable checkpoint")


OURS = {
    "kind": "classifier", "dataset": "cifar10", "arch": "cifar_resnet8", "input_layer": "none",
    "image_shape": [3, 32, 32], "class_names": [str(k) for k in range(10)],
}  # fmt: skip


def deep(levels: int) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for _ in range(levels):
        made = {"a": made}
    return made


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sigma": 1e300}, r"sigma is not a number from 0 to 1e\+06, but 1e\+300"),
        ({"sigma": 10**400}, "sigma is not a number"),
        ({"sigma": 10**600}, "sigma is not a number"),
        ({"sigma": -0.1}, "sigma .* but -0.1"),
        ({"sigma": float("nan")}, "sigma .* but nan"),
        ({"sigma": "abc"}, "sigma .* but 'abc'"),
        ({"sigma": True}, "sigma .* but True"),
        ({"purified_sigma": float("inf")}, "purified_sigma .* but inf"),
        ({"input_layer": [1]}, r"input_layer is not a word, but \[1\]"),
        ({"input_layer": "banana"}, "unknown input layer 'banana'"),
        ({"input_layer": "0.5,nan"}, "input layer '0.5,nan': all numbers must be finite"),
        ({"input_layer": "0.5,0"}, "stds > 0"),
        ({"input_layer": "127.5,127.5"}, "a mean of 127.5 is beyond images"),
        ({"input_layer": "0.5,1e-30"}, "a standard deviation of 1e-30 is beyond images"),
        ({"mean": [1e300] * 3, "std": [0.5] * 3}, r"a mean of 1e\+300 is beyond"),
        ({"mean": [0.5] * 3, "std": [1e30, 0.5, 0.5]}, r"a standard deviation of 1e\+30 is beyond"),
        ({"arch": "x" * 10**6}, "arch is not a word"),
        ({"dataset": "a\x1b[2Jb"}, r"dataset is not a word, but 'a\\x1b\[2Jb'"),
        ({"class_names": ["a", 1]}, "class_names is not a list of str"),
        ({"class_names": []}, "class_names is empty"),
        ({"mean": [0.5]}, "mean and std are not one number a channel"),
        ({"mean": [0.5] * 3, "std": [0.5, 0.5]}, "mean and std are not"),
        ({"mean": [0.5] * 3, "std": [0.5, 0.0, 0.5]}, "std holds a 0"),
        ({"mean": [0.5] * 3, "std": [0.5, -1.0, 0.5]}, "std is not"),
        ({"mean": [float("nan")] * 3, "std": [1.0] * 3}, "mean is not a list of finite numbers"),
        ({"image_shape": [3, 10**9, 10**9]}, "image_shape is not"),
        ({"image_shape": [3, 0, 32]}, "image_shape is not"),
        ({"image_shape": [3.0, 32.0, 32.0]}, "image_shape is not"),
        ({"image_shape": (3, 32, 32)}, "image_shape is not"),
        ({"overrides": [1]}, "overrides is not"),
        ({"colour": "red"}, "metadata that we do not know: colour"),
    ],
)  # fmt: skip
def test_metadata_are_checked_field_by_field(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "c.pt"
    state = {f"1.{key}": value for key, value in STATE.items()}
    torch.save({"epoch": 1, "state_dict": state, "diffsmooth": {**OURS, **change}}, path)
    refused(path, message)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"channel_mult": "abc"}, "channel_mult must be a list .*'abc'"),
        ({"channel_mult": [1] * 10**6}, "channel_mult must be a list of at most 16"),
        ({"channel_mult": []}, "channel_mult must name at least one level"),
        ({"channel_mult": [1, 0.5]}, "channel_mult must be a whole number"),
        ({"channel_mult": [1, 10**9]}, "channel_mult must be a whole number"),
        ({"num_res_blocks": 1e9}, r"num_res_blocks must be a whole number .* 1000000000\.0"),
        ({"num_res_blocks": 10**9}, "num_res_blocks must be a whole number"),
        ({"num_res_blocks": 10**6}, "3,000,000 blocks, the file holds 2 tensors"),
        ({"num_res_blocks": 0}, "num_res_blocks must be"),
        ({"model_channels": 10**9}, "model_channels must be"),
        ({"model_channels": 33}, "model_channels must be a multiple of 32, got 33"),
        ({"model_channels": True}, "model_channels must be"),
        ({"attention_resolutions": [0]}, "attention_resolutions must be"),
        ({"attention_resolutions": 8}, "attention_resolutions must be a list"),
        ({"head_channels": 0}, "head_channels must be"),
        ({"head_channels": 48}, "head_channels must divide 64 channels, got 48"),
        ({"num_heads": 3}, "num_heads must divide 64 channels, got 3"),
        ({"dropout": float("nan")}, r"dropout must be in \[0, 1\), got nan"),
        ({"dropout": "x"}, "dropout must be"),
        ({"resblock_updown": "no"}, "resblock_updown must be true or false"),
        ({"image_size": 30}, "image_size must halve 2 times, got 30"),
        ({"banana": 1}, "unknown U-Net option banana"),
        (deep(200), "unknown U-Net option a"),
        ({"channel_mult": deep(200)}, "channel_mult must be a list"),
    ],
)  # fmt: skip
def test_a_unet_is_bounded_before_it_is_built(
    overrides: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "c.pt"
    said = {"kind": "unet", "preset": "small-gray32", "overrides": overrides}
    weights = {"input_blocks.0.0.weight": torch.ones(2), "b": torch.ones(2)}
    torch.save({"epoch": 1, "state_dict": weights, "diffsmooth": said}, path)
    refused(path, message, load_unet)


def test_a_classifier_is_bounded_by_the_weights_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    torch.save({"arch": "cifar_resnet6000002", "state_dict": STATE}, path)
    layers = "cifar_resnet6000002 has 6,000,002 layers, the file holds"
    refused(path, layers, lambda p: load_classifier(p, input_layer="none"))
    torch.save({"arch": "cifar_resnet" + "9" * 30, "state_dict": STATE}, path)
    refused(path, "unknown architecture", lambda p: _named(p))
    names = [str(k) for k in range(100_000)]
    torch.save(
        {"epoch": 1, "state_dict": {f"1.{k}": v for k, v in STATE.items()},
         "diffsmooth": {**OURS, "arch": "vit_giant_patch14_224", "class_names": names}},
        path,
    )  # fmt: skip
    refused(path, "weights do not fit", lambda p: load_classifier(p))


def _named(path: Path) -> None:
    try:
        load_classifier(path, input_layer="none")
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def test_weights_that_are_no_plain_finite_numbers_are_named(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    weight = STATE["conv1.weight"]
    bad_ones: list[tuple[Any, str]] = [
        (weight.to_sparse(), "would run torch.serialization._get_layout"),
        (weight.to(torch.complex64), "of complex64"),
        (weight.to(torch.float8_e4m3fn), "of float8_e4m3fn"),
        (torch.zeros(1).expand(10**15), "expanded to 1,000,000,000,000,000 numbers"),
        (torch.empty(10**12, device="meta"), "without numbers"),
        (weight.clone().fill_(float("nan")), "a weight that is not finite: conv1.weight"),
        (weight.clone().fill_(float("-inf")), "a weight that is not finite: conv1.weight"),
        (weight.double().fill_(1e39), "a weight that is not finite: conv1.weight"),
    ]
    for value, message in bad_ones:
        torch.save({"state_dict": {**STATE, "conv1.weight": value}}, path)
        refused(path, message)
    nan = {k: v * float("nan") if k.startswith("layer1.0.bn") else v for k, v in STATE.items()}
    torch.save(nan, path)
    refused(path, r"not finite: layer1\.0\.bn1\.\w+ \(first of \d+\)")
    torch.save({**STATE, "bn1.running_var": -STATE["bn1.running_var"]}, path)
    refused(path, r"a negative variance: bn1\.running_var")


def test_numbers_of_another_kind_do_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    torch.save({**STATE, "conv1.weight": STATE["conv1.weight"].to(torch.int8)}, path)
    refused(path, "conv1.weight is of int8, not of float32",
            lambda p: load_classifier(p, input_layer="none"))  # fmt: skip
    for dtype in (torch.float64, torch.float16, torch.bfloat16):
        other = {k: v.to(dtype) if v.is_floating_point() else v for k, v in STATE.items()}
        torch.save(other, path)
        model = load_classifier(path, input_layer="none")
        assert model[1].conv1.weight.dtype == torch.float32
        torch.testing.assert_close(
            model[1].conv1.weight, other["conv1.weight"].float(), atol=0, rtol=0
        )


def test_keys_are_shown_harmlessly(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    for name in ("a\x1b[2J", "b" * 900, "\u202ec"):
        torch.save({**STATE, name: torch.ones(1)}, path)
        refused(path, "is not expected", lambda p: load_classifier(p, input_layer="none"))
    torch.save({**STATE, "d" * 10**6: torch.ones(1)}, path)
    refused(path, "holds no weights that we know")
    torch.save({"\x1b[2J": STATE, "e" * 10**6: 1}, path)
    refused(path, "holds no weights that we know")


def test_a_checkpoint_that_fits_is_built_as_before(classifier_file: Path) -> None:
    checkpoint = read_checkpoint(classifier_file)
    info = checkpoint.metadata.dataset_info
    assert info is not None
    model = classifier_of(checkpoint, info)
    for key, value in model.state_dict().items():
        assert torch.equal(value, checkpoint.state_dict[key])
    assert CheckpointMetadata("classifier").check() is None
