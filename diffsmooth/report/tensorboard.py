"""A run in TensorBoard: certified accuracy against radius, and a few images."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from diffsmooth.report.figures import accuracy_figure
from diffsmooth.stats import Results, average_certified_radius, certified_accuracy

STEPS_A_UNIT = 1000  # TensorBoard's steps are integers: step = round(1000 * radius)


class ImageTriple(NamedTuple):
    """One image on its way through the pipeline: float32 (C, H, W) arrays, in [0, 1]."""

    image_index: int
    original: np.ndarray
    noisy: np.ndarray
    purified: np.ndarray


def write_run(
    folder: Path, name: str, results: Results, images: list[ImageTriple], text: str
) -> None:
    """Writes a run's events into a folder of its own.

    Args:
        folder: of this run; its name is the run's in TensorBoard.
        name: for the figure.
        results: at least one image.
        images: shown side by side: original, noisy, purified.
        text: shown as it is, under "summary".
    """
    from torch.utils.tensorboard import SummaryWriter  # imports TensorBoard

    for old in folder.glob("events.out.tfevents.*"):
        old.unlink()  # of an earlier showing of the same run
    radii = _radii(results)
    at_least = " (a lower bound)" if results.understates else ""
    with SummaryWriter(str(folder)) as writer:
        for radius, accuracy in zip(radii, certified_accuracy(results, radii), strict=True):
            step = round(STEPS_A_UNIT * radius)
            writer.add_scalar("certified accuracy (step = 1000 x l2 radius)", accuracy, step)
        average = average_certified_radius(results)
        writer.add_scalar(f"average certified radius{at_least}", average, 0)
        writer.add_figure("certified accuracy against radius", accuracy_figure({name: results}))
        writer.add_text("summary", f"```\n{text}\n```")
        for image in images:
            strip = np.concatenate([image.original, image.noisy, image.purified], axis=2)
            tag = f"image {image.image_index}: original, noisy, purified"
            writer.add_image(tag, strip.clip(0.0, 1.0), 0)


def _radii(results: Results) -> np.ndarray:
    """The radii of the curve: what the grid decides, or steps of 0.01."""
    if results.grid:
        grid = np.array(results.grid)
        return grid[results.measures(grid)]
    top = results.max_radius or float(results.radius.max(initial=0.0))
    return np.arange(0.0, top + 1e-9, 0.01)
