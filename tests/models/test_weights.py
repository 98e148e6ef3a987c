import pickle
from pathlib import Path

import pytest
import torch

from diffsmooth.models import build_classifier, load_classifier, load_unet
from diffsmooth.models.weights import CheckpointMetadata, read_checkpoint, write_checkpoint


def test_a_written_checkpoint_is_read_back(classifier_file: Path, unet_file: Path) -> None:
    checkpoint = read_checkpoint(classifier_file)
    assert checkpoint.metadata.sigma == 0.25
    model = load_classifier(classifier_file)
    assert not model.training
    for key, value in model.state_dict().items():
        assert torch.equal(value, checkpoint.state_dict[key])
    assert load_unet(unet_file).config.channel_mult == (1, 1)
    assert read_checkpoint(unet_file).metadata.max_sigma == 1.0


def test_the_file_has_the_fields_keys(classifier_file: Path) -> None:
    content = torch.load(classifier_file, weights_only=True)
    assert content["arch"] == "cifar_resnet8"
    assert "1.conv1.weight" in content["state_dict"]


class _RunsCode:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("code ran",)


def test_a_pickle_that_would_run_code_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "evil.pt"
    torch.save({"state_dict": _RunsCode()}, path)
    with pytest.raises(ValueError, match="not a readable checkpoint"):
        read_checkpoint(path)
    path.write_bytes(pickle.dumps(_RunsCode()))
    with pytest.raises(ValueError, match="not a readable checkpoint"):
        read_checkpoint(path)
    assert capsys.readouterr().out == ""


def test_broken_files_are_one_clear_line(tmp_path: Path, classifier_file: Path) -> None:
    whole = classifier_file.read_bytes()
    path = tmp_path / "broken.pt"
    for content in (b"", b"text", whole[: len(whole) // 2], whole[:100]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"broken\.pt: not a readable checkpoint") as error:
            read_checkpoint(path)
        assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="no such checkpoint"):
        read_checkpoint(tmp_path / "missing.pt")
    torch.save([1, 2], path)
    with pytest.raises(ValueError, match="not a checkpoint that"):
        read_checkpoint(path)


def test_the_wrong_kind_and_the_wrong_architecture_are_named(
    tmp_path: Path, classifier_file: Path, unet_file: Path
) -> None:
    with pytest.raises(ValueError, match="holds a unet, a classifier is wanted"):
        load_classifier(unet_file)
    with pytest.raises(ValueError, match="holds a classifier, a unet is wanted"):
        load_unet(classifier_file)
    metadata = read_checkpoint(classifier_file).metadata
    wrong = tmp_path / "wrong.pt"
    state = build_classifier("cifar_resnet14", 10, dataset="fashion_mnist").state_dict()
    write_checkpoint(wrong, metadata, state)
    with pytest.raises(ValueError, match=r"do not fit: 1\.layer1\.1\.conv1\.weight"):
        load_classifier(wrong)
    wide = build_classifier("cifar_resnet8", 7, dataset="fashion_mnist").state_dict()
    write_checkpoint(wrong, metadata, wide)
    with pytest.raises(ValueError, match=r"1\.fc\.weight is \(7, 64\), not \(10, 64\)"):
        load_classifier(wrong)


def test_metadata_of_the_future_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "future.pt"
    content = {"epoch": 0, "state_dict": {}, "diffsmooth": {"kind": "unet", "colour": "red"}}
    torch.save(content, path)
    with pytest.raises(ValueError, match="a broken checkpoint"):
        read_checkpoint(path)
    assert CheckpointMetadata("unet", "x").overrides == {}
