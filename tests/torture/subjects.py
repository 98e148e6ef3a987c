"""The commands that are tortured, what they leave undisturbed, and how that is compared."""

import csv
import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from starts import Start
from tally import Tally

ALONE = ("--accelerator", "cpu", "--purifier", "none", "--batch", "16", "--no_sanity_check")


@dataclass
class Place:
    """A folder for one torture: data, the commands' working directory, and its random numbers."""

    root: Path
    data: Path
    seed: int

    def fresh(self, name: str) -> Path:
        """An empty working directory."""
        folder = self.root / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder


class Rounds:
    """Fresh folders until the time is up; at least one."""

    def __init__(self, place: Place, until: float) -> None:
        self.place, self.until, self.number = place, until, 0

    def __iter__(self) -> "Rounds":
        return self

    def __next__(self) -> Path:
        if self.number and time.monotonic() > self.until:
            raise StopIteration
        self.number += 1
        return self.place.fresh(f"round{self.number}")


@dataclass
class Subject:
    """A command that goes on, or begins anew, when it is called again.

    Attributes:
        words: of its command line, in a fresh folder.
        found: what it has left in a folder: rows of each file, by the file's name.
        again: its words after an end before its end.
    """

    words: Callable[[Place], list[str]]
    found: Callable[[Path], dict[str, list[tuple[int, object]]]]
    again: Callable[[Place, Path], list[str]]

    def truth(self, place: Place) -> dict[str, dict[int, object]]:
        """What an undisturbed run leaves."""
        folder = place.fresh("truth")
        ended = Start(self.words(place), folder).begin().end()
        assert ended.code == 0, ended.said
        return {name: dict(rows) for name, rows in self.found(folder).items()}

    def compare(self, tally: Tally, folder: Path, truth: dict[str, dict[int, object]]) -> None:
        """Counts what is other than undisturbed."""
        found = self.found(folder)
        for name, rows in truth.items():
            tally.rows(found.get(name, []), rows, f"{folder.name}/{name}")
        for path in folder.rglob("*"):
            if path.name.endswith((".partial", ".parts")) or path.name.startswith(".diffsmooth-"):
                tally.litter += 1
                tally.note(f"left behind: {path}")


def certify_words(place: Place, *more: str, data: str = "test.npz") -> list[str]:
    """`certify` of all test images by the linear network."""
    return [
        "certify", str(place.data / data), "torture_subject:linear", "0.5", "o.txt", *ALONE,
        "--m", "1", "--local_noise_sd", "0", "--n0", "10", "--N", "60", "--skip", "1",
        "--threads", "1", "--logdir", "logs", *more,
    ]  # fmt: skip


def certified(folder: Path) -> dict[str, list[tuple[int, object]]]:
    """Rows of table and journal, without what a clock says."""
    found: dict[str, list[tuple[int, object]]] = {"o.txt": []}
    with open(folder / "o.txt") as table:
        for row in csv.DictReader(table, delimiter="\t"):
            row.pop("time")
            found["o.txt"].append((int(row["idx"]), row))
    found["o.jsonl"] = _journal(folder / "o.jsonl")
    found["o.manifest.json"] = [_identity(folder / "o.manifest.json")]
    return found


def _journal(path: Path) -> list[tuple[int, object]]:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        line.pop("seconds")
    return [(line["index"], line) for line in lines]


def _identity(path: Path) -> tuple[int, object]:
    return 0, json.loads(path.read_text())["identity"]


def certify(*more: str) -> Subject:
    """`certify`, which goes on by the same words."""

    def words(place: Place) -> list[str]:
        return certify_words(place, *more)

    return Subject(words, certified, lambda place, _: words(place))


def tune_words(place: Place) -> list[str]:
    """`tune` on eight held-out images."""
    return [
        "tune", str(place.data), "torture_subject:linear", "0.25", "t.yaml", *ALONE,
        "--images", "8", "--validation_images", "12", "--n0", "10", "--N", "40",
        "--sigma_local", "0.1", "0.2", "--m", "1", "2", "--radius", "0.1",
    ]  # fmt: skip


def tuned(folder: Path) -> dict[str, list[tuple[int, object]]]:
    """The sweep's rows and the config's options."""
    with open(folder / "t.sweep.csv") as table:
        rows: list[tuple[int, object]] = [*enumerate(csv.DictReader(table))]
    config = yaml.safe_load((folder / "t.yaml").read_text())
    return {"t.sweep.csv": rows, "t.yaml": [*enumerate(config.items())]}


def tune() -> Subject:
    """`tune`, which begins anew."""
    return Subject(tune_words, tuned, lambda place, _: [*tune_words(place), "--overwrite"])


def attack_words(place: Place) -> list[str]:
    """`attack` on eight of the images of a run that was certified for it, once a place."""
    run = place.root / "attacked"
    if not run.exists():
        run.mkdir()
        ended = Start(certify_words(place), run).begin().end()
        assert ended.code == 0, ended.said
    return [
        "attack", str(run / "o.jsonl"), "a.txt", "--dataset", str(place.data / "test.npz"),
        "--classifier", "torture_subject:linear", "--budgets", "0.9", "2", "--steps", "2",
        "--noise_samples", "2", "--search_votes", "11", "--max_images", "8", "--n", "40",
        "--check_n", "200", "--batch", "16", "--accelerator", "cpu", "--threads", "1",
        "--logdir", "logs",
    ]  # fmt: skip


def attacked(folder: Path) -> dict[str, list[tuple[int, object]]]:
    """Rows of tables, journal and pictures, without what a clock says."""
    found: dict[str, list[tuple[int, object]]] = {"a.txt": [], "a.flips.tsv": []}
    for name in ("a.txt", "a.flips.tsv"):
        with open(folder / name) as table:
            for row in csv.DictReader(table, delimiter="\t"):
                row.pop("time", None)
                found[name].append((len(found[name]), row))
    found["a.jsonl"] = _journal(folder / "a.jsonl")
    found["a.manifest.json"] = [_identity(folder / "a.manifest.json")]
    with np.load(folder / "a.images.npz") as pictures:
        found["a.images.npz"] = [*enumerate((key, pictures[key].tolist()) for key in pictures)]
    return found


def attack() -> Subject:
    """`attack`, which goes on by the same words."""
    return Subject(attack_words, attacked, lambda place, _: attack_words(place))


def train_words(place: Place) -> list[str]:
    """Four epochs of the linear network, under noise."""
    saving = "lightning.pytorch.callbacks.ModelCheckpoint"
    return [
        "train", "fit", "--model", "diffsmooth.lit.training.GaussianTraining",
        "--model.arch", "torture_subject:linear", "--model.sigma", "0.25",
        "--model.input_layer", "none", "--data.dataset", str(place.data), "--data.batch_size", "4",
        "--data.validation_images", "4", "--trainer.accelerator", "cpu",
        "--trainer.max_epochs", "6", "--trainer.logger", "false",
        "--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false",
        "--trainer.default_root_dir", ".", "--trainer.num_sanity_val_steps", "0",
        "--trainer.callbacks+", saving, "--trainer.callbacks.dirpath", ".",
        "--trainer.callbacks.save_last", "true",
        "--trainer.callbacks.enable_version_counter", "false",
    ]  # fmt: skip


def trained(folder: Path) -> dict[str, list[tuple[int, object]]]:
    """The weights of last.ckpt, and how far it is."""
    content: dict[str, Any] = torch.load(folder / "last.ckpt", weights_only=True)
    rows = [(name, value.tolist()) for name, value in sorted(content["state_dict"].items())]
    return {"last.ckpt": [*enumerate([content["epoch"], content["global_step"], *rows])]}


def train() -> Subject:
    """Training, which goes on from last.ckpt where there is one; it must be whole."""

    def again(place: Place, folder: Path) -> list[str]:
        resume = ["--ckpt_path", "last"] if os.path.lexists(folder / "last.ckpt") else []
        return [*train_words(place), *resume]

    return Subject(train_words, trained, again)
