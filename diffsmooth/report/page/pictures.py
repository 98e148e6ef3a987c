"""The gallery: pictures of a few images, with what became of them."""

import base64
import io
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image

from diffsmooth.report.names import class_names, file_names
from diffsmooth.report.page.text import short_radius
from diffsmooth.runs.gallery import GalleryImage
from diffsmooth.runs.reading import Run
from diffsmooth.stats import ABSTAIN, Results
from diffsmooth.stats.errors import UserError
from diffsmooth.stats.printed import rounded_down


class Picture(NamedTuple):
    """A picture: what it shows, its data URI, and its width in pixels."""

    caption: str
    uri: str
    width: int


@dataclass(frozen=True)
class Card:
    """One image of the gallery.

    Attributes:
        index: the image's number in its dataset.
        file: its name below the dataset's folder, "" where none is told.
        outcome: correct, wrong, abstained, skipped or failed.
        label, prediction: names of classes; prediction is "" where there is none.
        radius: l2, in [0, 1] pixel units; None where predictions have none.
        facts: pairs of a name and a value.
        pictures: on its way through the pipeline.
        copies: the local copies; empty where the classifier sees the purified image itself.
    """

    index: int
    file: str
    outcome: str
    label: str
    prediction: str
    radius: float | None
    facts: list[tuple[str, str]]
    pictures: list[Picture]
    copies: list[Picture]


def gallery(run: Run) -> list[Card]:
    """The cards of a run, by ascending index.

    Raises:
        UserError: an image that is not among the results.
    """
    rows = {int(index): row for row, index in enumerate(run.results.index)}
    for image in run.gallery:
        if image.index not in rows:
            raise UserError(f"{run.name}: image {image.index} of the gallery has no result")
    names, files = class_names(run), file_names(run.records)
    return [
        _card(run.results, image, rows[image.index], names, files.get(image.index, ""))
        for image in run.gallery
    ]


def _card(
    results: Results, image: GalleryImage, row: int, names: dict[int, str], file: str
) -> Card:
    label, prediction = int(results.label[row]), int(results.prediction[row])
    status = "" if results.status is None else str(results.status[row])
    radius = float(results.radius[row]) if results.certifies else None
    facts = []
    if radius is not None:
        facts.append(("radius", short_radius(radius)))
        if results.p_lower is not None:
            facts.append(("p_lower", rounded_down(results.p_lower[row], 4)))
    if results.votes is not None:
        facts.append(("votes", str(results.votes[row])))
    facts.append(("status", status or "n/a"))
    pictures = [picture_of("original", image.original), picture_of("noisy", image.noisy)]
    if not np.array_equal(image.purified, image.noisy):
        pictures.append(picture_of("purified", image.purified))
    m = len(image.copies)
    copies = [picture_of(f"local copy {i} of {m}", copy) for i, copy in enumerate(image.copies, 1)]
    return Card(
        image.index,
        file,
        _outcome(status, label, prediction),
        names[label],
        "" if prediction == ABSTAIN else names[prediction],
        radius,
        facts,
        pictures,
        copies,
    )


def _outcome(status: str, label: int, prediction: int) -> str:
    if status in ("skipped", "failed"):
        return status
    if prediction == ABSTAIN:
        return "abstained"
    return "correct" if prediction == label else "wrong"


def picture_of(caption: str, pixels: np.ndarray) -> Picture:
    """A PNG of uint8 (C, H, W) with C = 1 (grey) or 3 (RGB)."""
    image = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    data = base64.b64encode(buffer.getvalue()).decode()
    return Picture(caption, f"data:image/png;base64,{data}", pixels.shape[2])
