"""Pixels stay pixels, and the PSNR is the definition's."""

import math

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from diffsmooth.report.figures import DPI
from diffsmooth.report.image_grid import PANEL, GridRow, NoisyPair, image_grid, psnr


def blocks(picture: np.ndarray, image: np.ndarray, scale: int) -> np.ndarray:
    """Where an image (H, W, 3), each pixel a square of the scale, lies in a picture."""
    big = image.repeat(scale, axis=0).repeat(scale, axis=1)
    height, width = big.shape[:2]
    corners = np.argwhere((picture == big[0, 0]).all(axis=2))
    return np.array(
        [
            (top, left)
            for top, left in corners
            if np.array_equal(picture[top : top + height, left : left + width], big)
        ]
    )


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (3, 9, 14)])
def test_each_pixel_is_a_square_of_its_own(shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(0)

    def draw() -> np.ndarray:
        return rng.integers(0, 256, shape).astype(np.float32) / 255

    rows = [
        GridRow(7 * i, "Ankle boot", draw(), (NoisyPair(draw(), draw()), NoisyPair(draw(), draw())))
        for i in range(2)
    ]
    figure = image_grid(rows, [0.25, 1.0])
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    picture = np.asarray(canvas.buffer_rgba())[..., :3]
    scale = round(PANEL * DPI / max(shape[1:]))
    places = []
    for row in rows:
        panels = [row.original, *(p for pair in row.pairs for p in pair)]
        for panel in panels:
            assert panel is not None
            image = (255 * panel).round().astype(np.uint8).transpose(1, 2, 0)
            (found,) = blocks(picture, np.broadcast_to(image, (*shape[1:], 3)), scale)
            places.append(found)
    table = np.array(places).reshape(2, 5, 2)
    assert (np.diff(table[:, :, 0], axis=1) == 0).all()  # one row an image
    assert (np.diff(table[:, :, 1], axis=1) > 0).all()  # in their order
    texts = [axes.get_xlabel() for axes in figure.axes]
    assert texts[0] == "0\nAnkle boot"
    assert texts[2] == f"{psnr(rows[0].pairs[0][1], rows[0].original):.1f} dB"  # type: ignore[arg-type]
    assert [axes.get_title() for axes in figure.axes][:5] == [
        "original", "sigma 0.25", "purified", "sigma 1", "purified",
    ]  # fmt: skip


def test_without_a_purifier_there_are_no_such_columns() -> None:
    image = np.zeros((1, 8, 8), np.float32)
    figure = image_grid([GridRow(0, "0", image, (NoisyPair(image, None),) * 2)], [0.5, 1.0])
    assert [axes.get_title() for axes in figure.axes] == ["original", "sigma 0.5", "sigma 1"]


def test_psnr() -> None:
    original = np.zeros((1, 2, 2), np.float32)
    assert psnr(original, original) == math.inf
    assert psnr(np.full((1, 2, 2), 0.1, np.float32), original) == pytest.approx(20.0, abs=1e-5)
