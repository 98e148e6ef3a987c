"""A run in TensorBoard: certified accuracy against radius, its settings, and a few images."""

import re
from pathlib import Path

import numpy as np

from diffsmooth.report.figures import accuracy_figure
from diffsmooth.report.radii import top_radius, usual_radii
from diffsmooth.report.runs import Run
from diffsmooth.stats import (
    Results,
    average_certified_radius,
    certified_accuracy,
    certified_accuracy_interval,
)

STEPS_A_UNIT = 1000  # TensorBoard's steps are integers: step = round(1000 * radius)
CURVE = "certified accuracy (step = 1000 x l2 radius)"
LOW, HIGH = (f"{CURVE}/{end} end of the 95 % interval" for end in ("lower", "upper"))
LAYOUT = {
    "certification": {
        "certified accuracy of all runs": ["Multiline", [re.escape(CURVE) + "$"]],
        "certified accuracy with its interval": ["Margin", [CURVE, LOW, HIGH]],
    }
}
SHOWN_IMAGES = 8
SUFFIX = ".diffsmooth"  # of our files of events
SETTINGS = ("dataset", "purifier", "sigma", "m", "sigma_local")


def write_run(folder: Path, run: Run, text: str) -> None:
    """Writes a run's events into a folder of its own.

    Args:
        folder: of this run; its name is the run's in TensorBoard.
        run: at least one image.
        text: shown as it is, under "summary".
    """
    from torch.utils.tensorboard import SummaryWriter  # imports TensorBoard
    from torch.utils.tensorboard.summary import hparams

    for old in folder.glob(f"events.out.tfevents.*{SUFFIX}"):
        old.unlink()  # of an earlier showing of the same run; others' stay
    results = run.results
    radii = _radii(results)
    accuracy = certified_accuracy(results, radii)
    low, high = certified_accuracy_interval(results, radii).T
    with SummaryWriter(str(folder), filename_suffix=SUFFIX) as writer:
        for tag, values in ((CURVE, accuracy), (LOW, low), (HIGH, high)):
            for radius, value in zip(radii, values, strict=True):
                writer.add_scalar(tag, value, round(STEPS_A_UNIT * radius))
        writer.add_custom_scalars(LAYOUT)
        metrics = _metrics(run)
        for tag, value in metrics.items():
            writer.add_scalar(tag, value, 0)
        # Not by add_hparams, which would make another run of them.
        for summary in hparams(_settings(run), metrics):
            writer.file_writer.add_summary(summary)
        writer.add_figure("certified accuracy against radius", accuracy_figure({run.name: results}))
        writer.add_text("summary", f"```\n{text}\n```")
        for image in run.gallery[:SHOWN_IMAGES]:
            strip = np.concatenate(
                [image.original, image.noisy, image.purified, *image.copies], axis=2
            )
            copies = ", local copies" if len(image.copies) else ""
            writer.add_image(f"image {image.index}: original, noisy, purified{copies}", strip, 0)


def folder_name(name: str) -> str:
    """A run's name as that of a folder: letters, digits and ._- only."""
    return re.sub(r"[^\w.-]+", "_", name).strip(".") or "run"


def _radii(results: Results) -> np.ndarray:
    """The radii of the curve: what the grid decides, or steps of 0.01."""
    if results.grid:
        grid = np.array(results.grid)
        return grid[results.measures(grid)]
    return np.arange(0.0, top_radius(results) + 1e-9, 0.01)


def _metrics(run: Run) -> dict[str, float]:
    """What runs are compared by: tags and numbers."""
    results, radii = run.results, usual_radii([run])
    at_least = " (a lower bound)" if results.understates else ""
    metrics = {
        f"certified accuracy at {radius:.4g}": float(value)
        for radius, value in zip(radii, certified_accuracy(results, radii), strict=True)
        if not np.isnan(value)
    }
    if results.certifies:
        average = average_certified_radius(results)
        metrics[f"average certified radius{at_least}"] = average
    return metrics


def _settings(run: Run) -> dict[str, str | float]:
    """What may explain the difference between runs."""
    results = run.results
    known: dict[str, object] = {name: run.identity.get(name) for name in SETTINGS}
    known |= {"plan": results.plan, "alpha": results.alpha}
    if run.records:
        known["n"] = run.records[0].certificate.max_n
    known["classifier"] = run.context.get("classifier")
    return {
        name: float(value) if isinstance(value, int | float) else str(value)
        for name, value in known.items()
        if value not in (None, "")
    }
