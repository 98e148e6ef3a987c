"""A run in TensorBoard: certified accuracy against radius, its settings, and a few images."""

import math
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeGuard

import numpy as np

from diffsmooth.report.figures import accuracy_figure, any_letters
from diffsmooth.report.radii import distinct, top_radius, usual_radii
from diffsmooth.runs.attacked import AttackRun
from diffsmooth.runs.reading import Run
from diffsmooth.shown_text import shown
from diffsmooth.stats import (
    Results,
    average_certified_radius,
    certified_accuracy,
    certified_accuracy_interval,
)
from diffsmooth.stats.printed import radius_label, rounded_down

# TensorBoard's steps are integers: step = 1000 x radius, rounded down, or more for a finer grid.
DECIMALS, MOST_DECIMALS = 3, 9
SHOWN_IMAGES = 8
WRITER_SECONDS = 5.0  # by which TensorBoard's writing thread has ended
SUFFIX = ".diffsmooth"  # of our files of events
SETTINGS = ("dataset", "purifier", "sigma", "m", "sigma_local")


def write_run(folder: Path, run: Run, text: str) -> None:
    """Writes a run's events into a folder of its own.

    Args:
        folder: this run's folder; its name is the run's in TensorBoard.
        run: at least one image.
        text: shown as it is, under "summary".
    """
    from torch.utils.tensorboard import SummaryWriter  # imports TensorBoard
    from torch.utils.tensorboard.summary import hparams

    for old in folder.glob(f"events.out.tfevents.*{SUFFIX}"):
        old.unlink()  # of an earlier showing of the same run; others' stay
    results = run.results
    steps, curves = logged_curves(results)
    tags = [*curves]
    with _said_once(), SummaryWriter(str(folder), filename_suffix=SUFFIX) as writer:
        for (tag, values), end in zip(curves.items(), (0.0, 0.0, 1.0), strict=True):
            for step, value in zip(steps, values, strict=True):
                writer.add_scalar(tag, _float32(value, end), step)
        charts = {
            "certified accuracy of all runs": ["Multiline", [re.escape(tags[0]) + "$"]],
            "certified accuracy with its interval": ["Margin", [*tags]],
        }
        writer.add_custom_scalars({"certification": charts})
        metrics = metrics_of(run)
        for tag, value in metrics.items():
            writer.add_scalar(tag, _float32(value, 0.0), 0)
        # Not by add_hparams, which would make another run of them.
        for summary in hparams(settings_of(run), metrics):
            writer.file_writer.add_summary(summary)
        with any_letters():
            figure = accuracy_figure({run.name: results}, radii=usual_radii([run]))
            writer.add_figure("certified accuracy against radius", figure)
        writer.add_text("summary", f"```\n{text}\n```")
        for image in run.gallery[:SHOWN_IMAGES]:
            parts, names = [image.original, image.noisy], ["original", "noisy"]
            if not np.array_equal(image.purified, image.noisy):  # there is a purifier
                parts, names = [*parts, image.purified], [*names, "purified"]
            if len(image.copies):
                parts, names = [*parts, *image.copies], [*names, "local copies"]
            tag = f"image {image.index}: {', '.join(names)}"
            writer.add_image(tag, np.concatenate(parts, axis=2), 0)


def write_attacks(folder: Path, run: AttackRun, text: str) -> None:
    """Writes a run of attacks into a folder of its own.

    Args:
        folder, text: see `write_run`.
        run: at least one image.
    """
    from torch.utils.tensorboard import SummaryWriter

    for old in folder.glob(f"events.out.tfevents.*{SUFFIX}"):
        old.unlink()
    found = run.found
    norms = found.wrong_from[np.isfinite(found.wrong_from)]
    top = max(float(norms.max(initial=0.0)), float(found.radius.max(initial=0.0)))
    radii = np.arange(math.floor(100 * top) + 2) / 100
    step = f"(step = {10**DECIMALS} x l2 radius)"
    curves = {
        f"certified accuracy of attacked images {step}": (found.certified_accuracy(radii), 0.0),
        f"empirical accuracy {step}/abstained right": (found.accuracy(radii, True), 1.0),
        f"empirical accuracy {step}/abstained wrong": (found.accuracy(radii, False), 1.0),
    }
    with _said_once(), SummaryWriter(str(folder), filename_suffix=SUFFIX) as writer:
        for tag, (values, end) in curves.items() if found.is_labelled else ():
            for radius, value in zip(radii, values, strict=True):
                writer.add_scalar(tag, _float32(value, end), _step(radius, DECIMALS))
        writer.add_text("summary", f"```\n{text}\n```")
        for picture in run.pictures[:SHOWN_IMAGES]:
            parts = [picture.original, picture.perturbation, picture.attacked]
            tag = f"try {picture.item}: original, perturbation, attacked"
            writer.add_image(tag, np.concatenate(parts, axis=2), 0)


@contextmanager
def _said_once() -> Iterator[None]:
    """Keeps what fails in TensorBoard's writing thread, as on a full disk, to our own thread.

    TensorBoard raises it there once more; Python would print it for its own thread, too.
    """
    before, others = threading.excepthook, set(threading.enumerate())

    def hook(failure: threading.ExceptHookArgs) -> None:
        if not issubclass(failure.exc_type, OSError):
            before(failure)

    threading.excepthook = hook
    try:
        yield
    finally:
        for thread in set(threading.enumerate()) - others:
            thread.join(WRITER_SECONDS)
        threading.excepthook = before


def folder_name(name: str) -> str:
    """A run's name as that of a folder: letters, digits and ._- only."""
    return re.sub(r"[^\w.-]+", "_", name).strip(".") or "run"


def logged_curves(results: Results) -> tuple[list[int], dict[str, np.ndarray]]:
    """Steps, each for a radius, and by tags the certified accuracy and the ends of its interval."""
    radii = _radii(results)
    decimals = _decimals(radii)
    accuracy = certified_accuracy(results, radii)
    ends = certified_accuracy_interval(results, radii).T
    curves = dict(zip(curve_tags(decimals), (accuracy, *ends), strict=True))
    return [_step(radius, decimals) for radius in radii], curves


def _radii(results: Results) -> np.ndarray:
    """The radii of the curve: what the grid decides, or steps of 0.01."""
    if results.grid:
        grid = distinct(results.grid)
        return grid[results.measures(grid)]
    steps = math.floor(100 * top_radius(results)) + 1
    return np.arange(steps) / 100


def curve_tags(decimals: int = DECIMALS) -> tuple[str, str, str]:
    """Tags of the certified accuracy and of the ends of its interval, over those of other runs.

    Args:
        decimals: those of the radius in the steps.
    """
    curve = f"certified accuracy (step = {10**decimals} x l2 radius)"
    low, high = (f"{curve}/{end} end of the 95 % interval" for end in ("lower", "upper"))
    return curve, low, high


def _step(radius: float, decimals: int) -> int:
    return int(rounded_down(radius, decimals).replace(".", ""))


def _decimals(radii: np.ndarray) -> int:
    """As many as tell the radii apart, at least DECIMALS."""
    decimals = DECIMALS
    while decimals < MOST_DECIMALS and len({_step(r, decimals) for r in radii}) < len(radii):
        decimals += 1
    return decimals


def _float32(value: float, towards: float) -> np.float32:
    """What TensorBoard keeps of a number, rounded in one direction."""
    kept = np.float32(value)
    overstates = float(kept) < value if towards > 0 else float(kept) > value
    return np.nextafter(kept, np.float32(towards)) if overstates else kept


def metrics_of(run: Run) -> dict[str, float]:
    """What runs are compared by: tags and numbers."""
    results, radii = run.results, usual_radii([run])
    at_least = " (a lower bound)" if results.understates else ""
    metrics = {
        f"certified accuracy at {radius_label(radius, least=0)}": float(value)
        for radius, value in zip(radii, certified_accuracy(results, radii), strict=True)
        if not np.isnan(value)
    }
    if results.certifies:
        average = average_certified_radius(results)
        metrics[f"average certified radius{at_least}"] = average
    return metrics


def _is_float(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and abs(value) <= sys.float_info.max


def settings_of(run: Run) -> dict[str, str | float]:
    """What may explain the difference between runs."""
    results = run.results
    known: dict[str, object] = {name: run.identity.get(name) for name in SETTINGS}
    known |= {"plan": results.plan, "alpha": results.alpha}
    if run.records:
        known["n"] = run.records[0].certificate.max_n
    known["classifier"] = run.context.get("classifier")
    return {
        name: float(value) if _is_float(value) else shown(str(value))
        for name, value in known.items()
        if value not in (None, "")
    }
