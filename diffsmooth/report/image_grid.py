"""The picture of `diffsmooth visualize`: images, with noise at several levels, and purified."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from diffsmooth.report.figures import DPI
from diffsmooth.runs.gallery import to_bytes
from diffsmooth.shown_text import shown
from diffsmooth.stats.printed import exact, rounded_down

PANEL = 1.3  # inches, about: a pixel of the image is a whole number of the figure's dots
LETTERS = 22  # of a class name: as many as fit under a panel
LESS = 1 - 1e-9  # of a panel: matplotlib before 3.11 takes 192.00000000000003 dots for 193
GAP, LINE, MARGIN = 0.08, 0.22, 0.08  # inches: between panels, of a line of text, around all


class NoisyPair(NamedTuple):
    """An image under noise, float32 (C, H, W), and purified, None without a purifier."""

    noisy: np.ndarray
    purified: np.ndarray | None


@dataclass(frozen=True)
class GridRow:
    """One image.

    Attributes:
        index: in its dataset.
        class_name: name of its label.
        original: float32 (C, H, W), in [0, 1].
        pairs: one a noise level.
    """

    index: int
    class_name: str
    original: np.ndarray
    pairs: tuple[NoisyPair, ...]


def psnr(image: np.ndarray, original: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB of an image beside the original, both in [0, 1]."""
    error = float(np.mean((image.astype(np.float64) - original) ** 2))
    return math.inf if error == 0 else -10 * math.log10(error)


def image_grid(rows: Sequence[GridRow], sigmas: Sequence[float]) -> Figure:
    """One row an image: the original, then noisy and purified at each noise level.

    The PSNR of each purified image stands under it.

    Args:
        rows: at least one, images of one shape.
        sigmas: noise levels, [0, 1] pixel units, of the rows' pairs.
    """
    height, width = rows[0].original.shape[1:]
    scale = max(1, round(PANEL * DPI / max(height, width)))
    panel_width, panel_height = scale * width / DPI, scale * height / DPI
    titles = ["original"]
    for sigma in sigmas:
        titles.append(f"sigma {exact(sigma)}")
        titles += ["purified"] if rows[0].pairs[0].purified is not None else []
    below = 2 * LINE  # the first column's text has two lines
    total_width = 2 * MARGIN + len(titles) * (panel_width + GAP) - GAP
    total_height = 2 * MARGIN + LINE + len(rows) * (panel_height + below)
    figure = Figure(figsize=(total_width, total_height), dpi=DPI)

    def place(column: int, row: int) -> tuple[float, float, float, float]:
        left = MARGIN + column * (panel_width + GAP)
        top = MARGIN + LINE + row * (panel_height + below)
        # On whole dots of the figure, or a row of pixels would be cut.
        left, top = round(left * DPI) / DPI, round(top * DPI) / DPI
        bottom = total_height - top - panel_height
        return (
            left / total_width,
            bottom / total_height,
            LESS * panel_width / total_width,
            LESS * panel_height / total_height,
        )

    for number, row in enumerate(rows):
        panels = [(row.original, f"{row.index}\n{_short(shown(row.class_name))}")]
        for pair in row.pairs:
            panels.append((pair.noisy, ""))
            if pair.purified is not None:
                panels.append((pair.purified, _decibels(psnr(pair.purified, row.original))))
        for column, (pixels, text) in enumerate(panels):
            axes = figure.add_axes(place(column, number))
            picture = to_bytes(pixels).transpose(1, 2, 0)
            if picture.shape[2] == 1:
                picture = picture.repeat(3, axis=2)
            axes.imshow(picture, interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
            for spine in axes.spines.values():
                spine.set_visible(False)
            axes.set_xlabel(text, fontsize=7.5, labelpad=2, parse_math=False)
            if number == 0:
                axes.set_title(titles[column], fontsize=8, pad=3)
    return figure


def _short(name: str) -> str:
    return name if len(name) <= LETTERS else f"{name[: LETTERS - 3].rstrip()}..."


def _decibels(ratio: float) -> str:
    return f"{rounded_down(ratio, 1) if math.isfinite(ratio) else ratio} dB"
