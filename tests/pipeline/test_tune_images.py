"""Which images `diffsmooth tune` judges on, and what it says of them, by what checkpoints tell."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffsmooth.cli import tune
from diffsmooth.lit.data import load_images
from diffsmooth.models.checkpoints.formats import read_checkpoint
from diffsmooth.models.checkpoints.training_images import TrainingImages, split_images
from diffsmooth.models.checkpoints.weights import write_checkpoint
from diffsmooth.pipeline import tune as tuning
from diffsmooth.pipeline.tune_images import (
    EXTRA_UNKNOWN,
    HELD_OUT,
    LEFT_OUT,
    TRAINED,
    UNKNOWN,
    VALIDATION,
)

Tuned = Callable[..., list[int]]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    images = np.random.default_rng(0).integers(0, 256, (60, 32, 32), dtype=np.uint8)
    np.savez(folder / "train.npz", images=images, labels=np.arange(60) % 10)
    return folder


def record(data: Path, validation: int, left_out: int = 0, **changes: Any) -> TrainingImages:
    """As a training on these images by seed 3 writes it."""
    digest = load_images("fashion_mnist", data, "train").fingerprint()
    choice = split_images(60, validation, left_out, 3).choice
    known = TrainingImages(
        "fashion_mnist", digest, 60, validation, left_out, 3, choice,
        "validation" if validation else "nothing",
    )  # fmt: skip
    return known._replace(**changes)


@pytest.fixture
def tuned(
    tmp_path: Path, data: Path, classifier_file: Path, monkeypatch: pytest.MonkeyPatch
) -> Tuned:
    """Tunes with a record in the classifier's checkpoint; the indices of the images it took."""
    taken: list[int] = []
    real = tuning.certify_settings

    def spy(sweep: Any, plan: Any, tasks: Any, *others: Any) -> Iterator[Any]:
        listed = list(tasks)
        taken.extend(task.key.image for task in listed)
        return real(sweep, plan, listed, *others)

    monkeypatch.setattr(tuning, "certify_settings", spy)
    plain = read_checkpoint(classifier_file)

    def run(told: TrainingImages | None, *more: str) -> list[int]:
        path = tmp_path / "c.pt"
        write_checkpoint(path, plain.metadata, plain.state_dict, 0, told)
        taken.clear()
        tune.main([
            "fashion_mnist", str(path), "0.5", str(tmp_path / "o.yaml"), "--data_root", str(data),
            "--purifier", "none", "--images", "5", "--N0", "4", "--N", "20", "--radius", "0.1",
            "--m", "1", "--sigma_local", "0.1", "--batch", "8", "--precision", "float32",
            "--accelerator", "cpu", "--no_sanity_check", "--overwrite", *more,
        ])  # fmt: skip
        return list(taken)

    return run


def header(tmp_path: Path) -> str:
    lines = (tmp_path / "o.yaml").read_text().splitlines()
    return "\n".join(line for line in lines if line.startswith("# "))


def by_hand(pool: np.ndarray, count: int = 5) -> list[int]:
    """Evenly spaced ones of some indices."""
    pool = np.sort(pool)
    return pool[np.round(np.linspace(0, len(pool) - 1, count)).astype(int)].tolist()


ORDER = np.random.default_rng(3).permutation(60)


def test_it_takes_the_images_that_were_held_out(tuned: Tuned, tmp_path: Path, data: Path) -> None:
    assert tuned(record(data, 20)) == by_hand(ORDER[:20])
    assert f"On 5 images of fashion_mnist: {VALIDATION}." in header(tmp_path)
    assert "these images may have chosen the checkpoint" in header(tmp_path)
    tuned(record(data, 20, chosen_by="nothing"))
    assert f"On 5 images of fashion_mnist: {HELD_OUT}." in header(tmp_path)
    assert "may have chosen" not in header(tmp_path)


def test_images_that_were_left_out_go_before(tuned: Tuned, tmp_path: Path, data: Path) -> None:
    assert tuned(record(data, 20, 8)) == by_hand(ORDER[20:28])
    assert f"On 5 images of fashion_mnist: {LEFT_OUT}." in header(tmp_path)
    assert tuned(record(data, 0, 8)) == by_hand(ORDER[:8])


def refused(
    tuned: Tuned, capsys: pytest.CaptureFixture[str], told: TrainingImages | None, *more: str
) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        tuned(told, *more)
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_a_network_that_all_images_trained_is_refused_or_it_is_said(
    tuned: Tuned, tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    everything = record(data, 0)
    error = refused(tuned, capsys, everything)
    assert "all 60 training images trained it" in error
    assert "--data.validation_images" in error
    assert not (tmp_path / "o.yaml").exists()
    assert tuned(everything, "--trained_images") == by_hand(np.arange(60))
    assert f"images: {TRAINED}" in capsys.readouterr().out
    assert f"On 5 images of fashion_mnist: {TRAINED}." in header(tmp_path)
    assert "held" not in header(tmp_path).replace("held out by", "").split("Estimated")[0]
    assert "says that some images were held out" in refused(
        tuned, capsys, record(data, 20), "--trained_images"
    )


def test_without_a_record_it_is_unknown(
    tuned: Tuned, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tuned(None, "--validation_images", "20", "--validation_seed", "3") == by_hand(ORDER[:20])
    out = capsys.readouterr().out
    for text in (out, header(tmp_path)):
        assert UNKNOWN in text
        assert "unknown which images trained the classifier: the checkpoint does not say" in text
        assert "if its training held out 20 images by seed 3" in text
        assert "held-out" not in text
    tuned(None, "--trained_images")
    assert f"On 5 images of fashion_mnist: {TRAINED}." in header(tmp_path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"digest": "0" * 64}, "its checkpoint tells of 60 other ones (fashion_mnist, 00000000"),
        ({"choice": "0" * 16}, "the choice that its checkpoint tells of comes out otherwise here"),
        ({"pretrained": "other"}, "unknown whether they trained the checkpoint that"),
    ],
)
def test_a_record_of_other_images_does_not_tell(
    tuned: Tuned, tmp_path: Path, data: Path, changes: dict[str, Any], said: str
) -> None:
    tuned(record(data, 20, **changes), "--validation_images", "20")
    assert said in header(tmp_path)
    assert f"On 5 images of fashion_mnist: {UNKNOWN}." in header(tmp_path)


def extra(data: Path, **changes: Any) -> dict[str, Any]:
    """Of a training whose extra images were the data set's own, held-out ones among them."""
    digest = record(data, 20).digest
    return {"extra": "train.npz", "extra_digest": digest, "extra_total": 60} | changes


def test_extra_images_may_hold_those_that_were_held_out(
    tuned: Tuned, tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tuned(record(data, 20, 8, **extra(data, extra_digest="3" * 64)))
    assert f"On 5 images of fashion_mnist: {EXTRA_UNKNOWN}." in header(tmp_path)
    assert "unknown whether train.npz holds the images of the sweep" in header(tmp_path)
    again = record(data, 20, 8, **extra(data))
    error = refused(tuned, capsys, again)
    assert "all 60 training images trained it, those held out among them" in error
    assert tuned(again, "--trained_images") == by_hand(np.arange(60))
    assert f"On 5 images of fashion_mnist: {TRAINED}." in header(tmp_path)


def test_the_test_images_that_chose_a_network_are_told_of_trained_ones_too(
    tuned: Tuned, tmp_path: Path, data: Path
) -> None:
    tuned(record(data, 0, chosen_by="test"), "--trained_images")
    assert "its TEST images may have chosen this checkpoint" in header(tmp_path)


def test_a_small_data_set_without_a_record_needs_its_number(
    tuned: Tuned, capsys: pytest.CaptureFixture[str]
) -> None:
    error = refused(tuned, capsys, None)
    assert "validation_images must be below the 60 training images, got 2,000 (by default)" in error
    assert "the checkpoint does not say which images trained it" in error
    assert "got 60:" in refused(tuned, capsys, None, "--validation_images", "60")


def test_options_that_the_record_contradicts(
    tuned: Tuned, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = record(data, 20, 4)
    for more, message in (
        (("--validation_images", "10"), "validation_images is 20 by the classifier's checkpoint"),
        (("--validation_seed", "0"), "validation_seed is 3 by the classifier's checkpoint"),
        ((), "images must be at most the 4 left-out images of its training, got 5"),
    ):
        assert message in refused(tuned, capsys, told, *more)
    assert len(tuned(told, "--validation_images", "20", "--images", "4")) == 4


@pytest.mark.slow
def test_what_the_images_are_to_the_diffusion_model(
    tuned: Tuned, tmp_path: Path, data: Path, unet_file: Path
) -> None:
    plain, path = read_checkpoint(unet_file), tmp_path / "u.pt"
    more = ["--purifier", "oneshot", "--diffusion", str(path)]
    for told, said in (
        (None, "unknown whether these images trained it: the checkpoint does not say"),
        (record(data, 20), "diffusion model: 0 of these 5 images trained it"),
        (record(data, 0), "diffusion model: 5 of these 5 images trained it"),
        (record(data, 20, digest="0" * 64), "its checkpoint tells of 60 other ones (fashion_mnist"),
        # Nothing is computed of so many.
        (record(data, 20, total=10**12), "its checkpoint tells of 1,000,000,000,000 other ones"),
        (record(data, 20, **extra(data)), "diffusion model: 5 of these 5 images trained it"),
    ):
        write_checkpoint(path, plain.metadata, plain.state_dict, 0, told)
        tuned(record(data, 20), *more)
        assert said in header(tmp_path)
