"""Small runs for the tests of the page, and what stands in a page."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np

from diffsmooth.runs.gallery import GalleryImage
from diffsmooth.runs.reading import Run
from diffsmooth.stats import Results

VOID = {"meta", "img", "input", "link", "br", "path", "rect", "wbr"}


def ten_images() -> Results:
    """One abstained; right at 0.1, 0.2 .. 0.7; wrong, as class 1, at 0.8 and 0.9.

    0.95 was the largest possible radius.
    """
    return Results(
        index=np.arange(10),
        label=np.zeros(10, dtype=int),
        prediction=np.array([-1] + [0] * 7 + [1] * 2),
        radius=np.arange(10) / 10,
        seconds=np.arange(1.0, 11.0),
        max_radius=0.95,
        plan="fixed",
        sigma=0.5,
        alpha=0.001,
        votes=np.full(10, 1100),
        status=np.array(["abstained"] + ["certified"] * 9),
        p_lower=np.linspace(0.4, 0.99, 10),
    )


def make_run(results: Results, name: str = "a", **more: Any) -> Run:
    return Run(name, Path(f"{name}.jsonl"), results, np.arange(len(results)) + 1, **more)


def foreign() -> Results:
    """The same from someone else's table, which knows the radii and classes only."""
    nothing = dict.fromkeys(
        ("max_radius", "plan", "sigma", "alpha", "votes", "status", "p_lower"), None
    )
    return replace(ten_images(), seconds=np.full(10, np.nan), **nothing)


def on_grid() -> Results:
    """The same, by a plan that decided 0.2, 0.625 and 1.0."""
    return replace(ten_images(), plan="group_sequential", grid=(0.2, 0.625, 1.0))


def predictions() -> Results:
    """The same from `diffsmooth predict`."""
    status = np.array(["abstained"] + ["answered"] * 9)
    return replace(
        ten_images(),
        plan="majority",
        radius=np.zeros(10),
        max_radius=0.0,
        certifies=False,
        status=status,
    )


def label_aware() -> Results:
    """The same by a label-aware plan: the two wrong images were skipped."""
    prediction = np.array([-1] + [0] * 7 + [-1] * 2)
    radius = np.where(prediction < 0, 0.0, ten_images().radius)
    status = np.array(["abstained"] + ["certified"] * 7 + ["skipped"] * 2)
    return replace(ten_images(), prediction=prediction, radius=radius, status=status)


def failed() -> Results:
    """The same, but the first image failed instead of abstaining."""
    return replace(ten_images(), status=np.array(["failed"] + ["certified"] * 9))


def pictures(index: int, purified: bool = True, m: int = 2) -> GalleryImage:
    pixels = np.random.default_rng(index).integers(0, 256, (3 + m, 1, 8, 8), dtype=np.uint8)
    original, noisy, pure = pixels[:3]
    return GalleryImage(index, original, noisy, pure if purified else noisy, pixels[3:])


class Page(HTMLParser):
    """Elements of a page: pairs of a tag and its attributes, and the text of each by selector."""

    def __init__(self, html: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[list[str]] = []
        self._open: list[int] = []
        self.feed(html)
        self.close()
        assert not self._open, "elements are left open"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self._open.append(len(self.tags))
        self.tags.append((tag, dict(attrs)))
        self.text.append([])

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.text.append([])

    def handle_endtag(self, tag: str) -> None:
        assert self.tags[self._open.pop()][0] == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        for i in self._open:
            self.text[i].append(data)

    def find(self, tag: str, **attributes: str) -> list[str]:
        """Texts of the elements with these attributes (class_ for class: one of its words)."""
        found = []
        for (name, have), text in zip(self.tags, self.text, strict=True):
            wanted = {key.rstrip("_"): value for key, value in attributes.items()}
            if name == tag and all(v in (have.get(k) or "").split() for k, v in wanted.items()):
                found.append(" ".join("".join(text).split()))
        return found

    def rows(self, class_: str) -> list[list[str]]:
        """Texts of the body's cells of the first table of a class."""
        rows: list[list[str]] = []
        inside = False
        for (name, have), text in zip(self.tags, self.text, strict=True):
            if name == "table":
                inside = have.get("class") == class_ and not rows
            if inside and name == "tr":
                rows.append([])
            if inside and name in ("th", "td"):
                rows[-1].append(" ".join("".join(text).split()))
        return rows[1:]

    @property
    def curve(self) -> dict[str, Any]:
        (data,) = self.find("script", id="curve-data")
        return json.loads(data)


def readings(page: Page, radius: str) -> list[str]:
    """What the curve says of each run at a radius."""
    i = page.curve["radii"].index(radius)
    return [texts[i] for texts in page.curve["texts"]]


def bar_counts(html: str) -> list[int]:
    """The counts of all bars of all histograms."""
    return [int(count) for count in re.findall(r"<title>[^:<]*: (\d+)", html)]
