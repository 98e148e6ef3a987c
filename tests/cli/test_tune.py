"""`diffsmooth tune` from end to end, with tiny networks."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from diffsmooth.cli import certify, tune
from diffsmooth.lit.data import load_images
from diffsmooth.models import (
    IdentityPurifier,
    LocalSmoothing,
    OneShotPurifier,
    load_classifier,
    load_unet,
)
from diffsmooth.models.checkpoints.training_images import split_images
from diffsmooth.models.diffusion.presets import get_preset
from diffsmooth.models.smoothing.noise import NoiseKey
from diffsmooth.models.smoothing.noise_sources import noise_source
from diffsmooth.models.smoothing.one_image import run_plan
from diffsmooth.models.smoothing.purifiers import Purifier
from diffsmooth.models.smoothing.vote_function import VoteFunction
from diffsmooth.pipeline import tune as tuning
from diffsmooth.pipeline import tune_images
from diffsmooth.stats import FixedSampleSize
from diffsmooth.stats.outlook import goal_of
from diffsmooth.whole_file import file_sha256

Command = Callable[..., list[str]]
FILES = ["o.sweep.csv", "o.sweep.png", "o.yaml"]


@pytest.fixture
def data(tmp_path: Path, classifier_file: Path) -> Path:
    """A folder whose training images have the labels that a random network gives them, mostly."""
    folder = tmp_path / "data"
    folder.mkdir()
    rng = np.random.default_rng(0)
    # Smooth enough that a class holds under noise.
    images = rng.integers(0, 256, (60, 4, 4), dtype=np.uint8).repeat(8, axis=1).repeat(8, axis=2)
    model = load_classifier(classifier_file)
    with torch.inference_mode():
        pixels = torch.from_numpy(images)[:, None].float() / 255
        noisy = pixels + 0.5 * torch.randn(pixels.shape, generator=torch.Generator().manual_seed(0))
        labels = model(noisy).argmax(dim=1).numpy()
    labels[::7] = (labels[::7] + 1) % 10
    np.savez(folder / "train.npz", images=images, labels=labels)
    return folder


@pytest.fixture
def words(tmp_path: Path, data: Path, classifier_file: Path, unet_file: Path) -> Command:
    """A small sweep, with changes to its options."""

    def build(*changes: str, dataset: str = "fashion_mnist", out: str = "o.yaml") -> list[str]:
        return [
            dataset, str(classifier_file), "0.5", str(tmp_path / "out" / out),
            "--data_root", str(data), "--diffusion", str(unet_file), "--validation_images", "20",
            "--images", "5", "--N0", "4", "--N", "30", "--radius", "0.2", "--m", "1", "2",
            "--sigma_local", "0.1", "0.3", "--batch", "16", "--precision", "float32",
            "--accelerator", "cpu", "--no_sanity_check", *changes,
        ]  # fmt: skip

    return build


def written(tmp_path: Path) -> list[str]:
    folder = tmp_path / "out"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def without(words: list[str], option: str, values: int) -> list[str]:
    at = words.index(option)
    return words[:at] + words[at + 1 + values :]


@pytest.mark.slow
@pytest.mark.parametrize("purifier", ["oneshot", "none"])
def test_the_numbers_are_those_of_a_certification_of_each_setting(
    words: Command,
    tmp_path: Path,
    data: Path,
    classifier_file: Path,
    unet_file: Path,
    purifier: str,
) -> None:
    given = words("--purifier", purifier)
    tune.main(given if purifier == "oneshot" else without(given, "--diffusion", 1))
    assert written(tmp_path) == FILES
    frame = pd.read_csv(tmp_path / "out" / "o.sweep.csv")
    assert list(zip(frame["sigma_local"], frame["m"], strict=True)) == [
        (0.1, 1), (0.1, 2), (0.3, 1), (0.3, 2),
    ]  # fmt: skip
    images = load_images("fashion_mnist", data, "train")
    held_out = split_images(60, 20, 0, 0).validation
    chosen = [held_out[i] for i in (0, 5, 10, 14, 19)]  # evenly spaced: 0, 4.75, 9.5, 14.25, 19
    makers: dict[str, Callable[[], Purifier]] = {
        "oneshot": lambda: OneShotPurifier(
            load_unet(unet_file), get_preset("small-gray32").schedule
        ),
        "none": IdentityPurifier,
    }
    goal = goal_of(FixedSampleSize(100, 10_000, 0.001), 0.2, 0.5)
    assert goal is not None
    merit = []
    for _, row in frame.iterrows():
        local = LocalSmoothing(
            load_classifier(classifier_file), int(row["m"]), row["sigma_local"], (1, 32, 32), 42
        )
        f = VoteFunction(makers[purifier](), local, 0.5, 10, 16)
        shares = []
        for index in chosen:
            sample = images[index]
            key = NoiseKey(0, "tune", "fashion_mnist", "train", index)
            plan, noise = FixedSampleSize(4, 30, 0.001), noise_source("integer", f.device)
            certificate = run_plan(f, sample.image, key, plan, noise=noise)
            both = (certificate.selection_counts, certificate.estimation_counts)
            shares.append(sum(dict(counts).get(sample.label, 0) for counts in both) / 34)
        reached = np.mean(np.array(shares) >= goal.share)
        assert row["estimated_certified_accuracy"] == pytest.approx(reached)
        assert row["mean_share_of_votes_for_label"] == pytest.approx(np.mean(shares))
        merit.append((row["estimated_certified_accuracy"], row["mean_share_of_votes_for_label"]))
    assert max(merit) > (0, 0)
    config = yaml.safe_load((tmp_path / "out" / "o.yaml").read_text())
    settings = list(zip(frame["sigma_local"], frame["m"], strict=True))
    assert merit[settings.index((config["local_noise_sd"], config["m"]))] == max(merit)


@pytest.mark.slow
def test_certify_reads_the_config(
    words: Command,
    tmp_path: Path,
    data: Path,
    classifier_file: Path,
    unet_file: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = ["--purifier", "multistep", "--steps", "2", "--runs", "3", "--convention",
               "diffsmooth", "--local_seed", "7", "--images", "2"]  # fmt: skip
    tune.main(words(*options))
    out = capsys.readouterr().out
    outfile = tmp_path / "out" / "o.yaml"
    assert f"python certify.py --config {outfile} --outfile OUT.txt" in out
    with np.load(data / "train.npz") as train:
        np.savez(data / "test.npz", images=train["images"][:2] // 2, labels=train["labels"][:2])
    certify.main(["--config", str(outfile), "--outfile", str(tmp_path / "c.txt"), "--skip", "1",
                  "--N0", "2", "--N", "12", "--batch", "4", "--threads", "1", "--accelerator",
                  "cpu", "--no_sanity_check", "--logdir", str(tmp_path / "logs")])  # fmt: skip
    identity = json.loads((tmp_path / "c.manifest.json").read_text())["identity"]
    config = yaml.safe_load(outfile.read_text())
    assert (config["n"], config["alpha"]) == (10_000, 0.001)  # as they were planned for
    expected = {
        "dataset": "fashion_mnist", "split": "test", "size": 2, "sigma": 0.5,
        "sigma_local": config["local_noise_sd"], "m": config["m"], "local_seed": 7,
        "classifier": file_sha256(classifier_file), "diffusion": file_sha256(unet_file),
        "purifier": "multistep", "steps": 2, "runs": 3, "convention": "diffsmooth",
        "precision": "float32", "input_layer": "standard",
    }  # fmt: skip
    assert {name: identity[name] for name in expected} == expected


def test_only_held_out_training_images_and_a_noise_of_their_own(
    words: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys: list[NoiseKey] = []
    real = tuning.certify_settings

    def spy(sweep: Any, plan: Any, tasks: Any, *others: Any) -> Iterator[Any]:
        listed = list(tasks)
        keys.extend(task.key for task in listed)
        return real(sweep, plan, listed, *others)

    monkeypatch.setattr(tuning, "certify_settings", spy)
    splits: list[str] = []
    load = tune_images.load_images

    def load_spy(dataset: str, root: str, split: str, side: int | None) -> Any:
        splits.append(split)
        return load(dataset, root, split, side)

    monkeypatch.setattr(tune_images, "load_images", load_spy)
    tune.main(words("--validation_seed", "3", "--seed", "9", "--images", "20"))
    held_out, _, rest = split_images(60, 20, 0, 3)
    assert [key.image for key in keys] == held_out
    assert not set(held_out) & set(rest)
    assert {key[:4] for key in keys} == {(9, "tune", "fashion_mnist", "train")}
    assert splits == ["train"]


def test_the_levels_tried_by_default_lie_around_the_training_noise(
    words: Command, tmp_path: Path
) -> None:
    tune.main(without(words("--images", "1", "--m", "2"), "--sigma_local", 2))
    frame = pd.read_csv(tmp_path / "out" / "o.sweep.csv")
    assert frame["sigma_local"].tolist() == [0.2, 0.25, 0.26, 0.27, 0.3, 0.35]
    # Plain smoothing is tried without local noise, too, where all copies are the same.
    arguments = without(
        words("--images", "1", "--purifier", "none", out="p.yaml"), "--diffusion", 1
    )
    tune.main(without(arguments, "--sigma_local", 2))
    frame = pd.read_csv(tmp_path / "out" / "p.sweep.csv")
    assert frame["sigma_local"].tolist()[:3] == [0.0, 0.2, 0.2]
    assert frame["m"].tolist()[:3] == [1, 1, 2]


def test_a_folder_with_train_npz(words: Command, tmp_path: Path, data: Path) -> None:
    tune.main(words(dataset=str(data)))
    config = yaml.safe_load((tmp_path / "out" / "o.yaml").read_text())
    assert (config["dataset"], config["split"]) == (str(data), "test")


def test_nothing_is_written_when_it_is_interrupted(
    words: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> Iterator[Any]:
        yield []
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tuning, "certify_settings", interrupted)
        with pytest.raises(KeyboardInterrupt):  # which `diffsmooth` turns into a line
            tune.main(words())
    assert written(tmp_path) == []

    def failing(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(tuning, "save_figure", failing)
    with pytest.raises(KeyboardInterrupt):
        tune.main(words())
    assert written(tmp_path) == ["o.sweep.csv"]


def test_files_that_are_there_are_kept_unless_told(words: Command, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "o.sweep.csv").write_text("mine")
    with pytest.raises(SystemExit) as stopped:
        tune.main(words())
    assert stopped.value.code == 2
    assert (tmp_path / "out" / "o.sweep.csv").read_text() == "mine"
    tune.main(words("--overwrite"))
    assert written(tmp_path) == FILES


def test_the_votes_that_a_refused_radius_takes_do_suffice(
    words: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        tune.main(words("--radius", "0.7"))
    error = capsys.readouterr().err
    assert "of the votes for it, which 34 votes hardly tell from all" in error
    needed = error.split("--N ")[1].split(",")[0]
    with pytest.raises(SystemExit):
        tune.main(words("--radius", "0.7", "--N", str(int(needed) - 1)))
    tune.main(words("--radius", "0.7", "--N", needed, "--images", "1"))


def test_a_radius_that_the_planned_run_cannot_certify_is_refused(
    words: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    for radius, how in (
        ("0.5", "at least 40 are needed: give a larger --planned_N"),
        ("9", "no number will do: give a smaller --radius"),
    ):
        with pytest.raises(SystemExit):
            tune.main(words("--radius", radius, "--planned_N", "30"))
        error = capsys.readouterr().err
        assert "30 votes certify at most 0.41" in error
        assert how in error
        assert error.count("\n") == 1


def test_a_sequential_run_to_come(words: Command, tmp_path: Path) -> None:
    tune.main(words("--plan", "group_sequential", "--planned_N", "1000", "--images", "1"))
    config = yaml.safe_load((tmp_path / "out" / "o.yaml").read_text())
    assert (config["plan"], config["n"]) == ("group_sequential", 1000)
    assert config["radii"] == [0.0, 0.2, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5]
    # Its last look, by definition: 0.8 alpha.
    goal = goal_of(FixedSampleSize(100, 1000, 0.0008), 0.2, 0.5)
    assert goal is not None
    frame = pd.read_csv(tmp_path / "out" / "o.sweep.csv")
    assert frame["share_of_votes_needed"].unique() == pytest.approx([goal.share])


def test_test_images_by_another_name_are_refused(
    words: Command, tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(data / "train.npz", data / "test.npz")
    with pytest.raises(SystemExit) as stopped:
        tune.main(words(dataset=str(data)))
    assert stopped.value.code == 2
    assert "its training images are its test images" in capsys.readouterr().err
    assert written(tmp_path) == []


def test_data_without_training_images_of_their_own_are_refused(
    words: Command, tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "flowers" / "rose").mkdir(parents=True)
    for dataset in ("fashion_mnist_sample", str(data / "train.npz"), str(tmp_path / "flowers")):
        with pytest.raises(SystemExit) as stopped:
            tune.main(words(dataset=dataset))
        assert stopped.value.code == 2
        error = capsys.readouterr().err
        assert f"{dataset} has no training images apart from those that certify.py takes" in error
        assert "a folder with train.npz and test.npz, or train/ and test/, in it" in error
        assert error.count("\n") == 1
    assert written(tmp_path) == []


def test_a_checkpoint_that_does_not_say_needs_levels(
    words: Command, tmp_path: Path, classifier_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = tmp_path / "bare.pth.tar"
    state = torch.load(classifier_file, weights_only=True)["state_dict"]
    torch.save({"arch": "cifar_resnet8", "state_dict": state}, bare)
    arguments = words("--images", "2")
    arguments[1] = str(bare)
    with pytest.raises(SystemExit) as stopped:
        tune.main(without(arguments, "--sigma_local", 2))
    assert stopped.value.code == 2
    assert "give the values of --sigma_local" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        tune.main(arguments)
    assert stopped.value.code == 2  # of random weights, no layer is right
    assert "no layer does better than chance" in capsys.readouterr().err
    tune.main([*arguments, "--normalize", "center"])
    assert "sigma' unknown" in capsys.readouterr().out
    config = yaml.safe_load((tmp_path / "out" / "o.yaml").read_text())
    assert config["normalize"] == "center"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--m", "0"], "m must be at least 1, got 0"),
        (["--sigma_local", "-0.1"], "sigma_local must be >= 0 and finite, got -0.1"),
        (["--images", "21"], "images must be at most the 20 validation_images, got 21"),
        (["--planned_N", "0"], "planned_N must be at least 1, got 0"),
        (["--plan", "best"], "group_sequential or PACKAGE.MODULE:NAME, got 'best'"),
        (["--radii", "0.2"], "radii is of plan group_sequential, not of fixed"),
        (["--plan", "group_sequential", "--radii", "0.5"], "must have the radius 0.2 among them"),
        (["--trained_images"], "give trained_images or validation_images, not both"),
        (["--validation_images", "60"], "validation_images must be below the 60 training images"),
        (["--N", "0"], "N must be at least 1"),
        (["--N0", "0"], "n0 must be at least 1"),
        (["--alpha", "1"], "alpha must be in (0, 1)"),
        (["--runs", "3"], "runs is of purifier multistep"),
        (["--split", "test"], "--split"),
        (["--devices", "2"], "--devices"),
    ],
)
def test_mistakes_are_one_line(
    words: Command,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changes: list[str],
    message: str,
) -> None:
    with pytest.raises(SystemExit) as stopped:
        tune.main(words(*changes))
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert written(tmp_path) == []


def test_an_unknown_dataset_and_a_name_without_its_ending(
    words: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    for changes, message in (
        ({"dataset": "fashion_mnst"}, "unknown dataset 'fashion_mnst'"),
        ({"out": "o.txt"}, "its name must end in .yaml or .yml"),
    ):
        with pytest.raises(SystemExit):
            tune.main(words(**changes))
        assert message in capsys.readouterr().err
