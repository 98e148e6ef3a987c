"""Our sequential plan beside its peers: votes and certified accuracy for one radius at a time.

    python docs/studies/sequential/beside_peers.py FILE... [--figure votes.png]

FILE is a journal (.jsonl) of a run of this tool, or a table of the field, of certified radii from a
fixed number of votes. From each the probabilities of its images' classes are taken for true, and many
runs of each plan on these images are drawn; see README.md for what is alike, and what is assumed.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.special import ndtr
from scipy.stats import binom
from sequential_peers import (
    CERTIFIED,
    UNDECIDED,
    OursGivingUp,
    Stages,
    StoppingPoints,
    adaptive,
    adaptive_kept,
    betting,
    fixed,
    group_sequential,
    group_sequential_at,
    power,
    stopping_points,
    union_bound,
)

from diffsmooth.report.figures import COLOURS, DPI, STYLES
from diffsmooth.runs.field_tables import read_table
from diffsmooth.runs.journal import read_journal
from diffsmooth.stats.pilot import PilotImage, pilot_images, select

N, N0, ALPHA, RADII, ERRORS = 100_000, 100, 0.001, (0.25, 0.5, 0.75), (0.01, 0.001)
PLANS = {
    "fixed N": "fixed",
    "Horvath, as published: 1,000, 10,000, 125,000": "published",
    "Horvath within N: 1,000, 10,000, 89,000": "within",
    "Horvath, as Voracek ran it: votes kept": "kept",
    "Voracek, union bound": "union bound",
    "Voracek, betting": "betting",
    "Voracek, betting for 1 / (2 alpha)": "as coded",
    "ours": "ours",
    "ours, with the peers' giving up": "ours at p_r",
}


def stages_of(plan: str, sigma: float, radius: float, giving_up: float) -> Stages:
    """A plan of `PLANS` that decides one radius."""
    p = float(ndtr(radius / sigma))
    if plan == "fixed":
        return fixed(p, N, ALPHA)
    if plan == "published":
        return adaptive((1_000, 10_000, 125_000), p, ALPHA, giving_up)
    if plan == "within":
        return adaptive((1_000, 10_000, N - 11_000), p, ALPHA, giving_up)
    if plan == "kept":
        return adaptive_kept((100, 1_000, 10_000, N - 11_100), p, ALPHA, giving_up)
    if plan == "union bound":
        return union_bound(p, N, ALPHA, giving_up)
    if plan == "betting":
        return betting(p, N, ALPHA, giving_up)
    if plan == "as coded":
        return betting(p, N, 2 * ALPHA, 2 * giving_up)
    ours = OursGivingUp(n0=N0, n=N, alpha=ALPHA, radii=(radius,), giving_up=giving_up)
    return group_sequential(ours, sigma) if plan == "ours" else group_sequential_at(p, ours)


@cache
def points_of(plan: str, sigma: float, radius: float, giving_up: float) -> list[StoppingPoints]:
    p = float(ndtr(radius / sigma))
    return [stopping_points(stage, p) for stage in stages_of(plan, sigma, radius, giving_up)]


def images_of_journal(path: Path) -> tuple[list[PilotImage], float]:
    """Images whose shares are those of their estimation votes, and sigma."""
    records = read_journal(path).records
    certificates = [record.certificate for record in records]
    return pilot_images(certificates, [r.label for r in records]), certificates[0].sigma


def images_of_table(path: Path, sigma: float, n: int, alpha: float) -> list[PilotImage]:
    """Images of a table of Cohen's: shares from the radii, all other votes for one other class.

    The successes are the fewest whose Clopper-Pearson bound is that of the radius. Of an image that
    abstained, half of the votes: more would have certified it, fewer cost all plans less.
    """
    table = read_table(path).results
    p_lower = ndtr(table.radius / sigma)
    successes = np.minimum(binom.isf(alpha, n, p_lower).astype(int) + 1, n)
    abstained = table.prediction < 0
    successes[abstained] = n // 2
    selected = np.where(abstained, table.label, table.prediction)
    columns = (successes.tolist(), selected.tolist(), table.label.tolist())
    return [PilotImage(n, s, k, (), label) for s, k, label in zip(*columns, strict=True)]


def share_of_label(image: PilotImage) -> float:
    """Where the label has no votes of its own it gets those of no one knows whom."""
    share = image.successes / image.n
    if image.selected == image.label:
        return share
    others = dict(image.others) or {image.label: 1}
    return (1 - share) * others.get(image.label, 0) / sum(others.values())


@dataclass(frozen=True)
class Selections:
    """What the selection votes of many runs chose, or what plans are told.

    Attributes:
        n0: votes that it took.
        is_label: bool (M, runs).
        share: float64 (M, runs), of the chosen class.
    """

    n0: int
    is_label: np.ndarray
    share: np.ndarray


def select_all(images: Sequence[PilotImage], runs: int, rng: np.random.Generator) -> Selections:
    chosen = [select(image, np.full(runs, image.successes / image.n), N0, rng) for image in images]
    labels = np.array([image.label for image in images])
    classes, shares = (np.array(column) for column in zip(*chosen, strict=True))
    return Selections(N0, classes == labels[:, None], shares)


def told(images: Sequence[PilotImage], runs: int) -> Selections:
    """The label is given, and its votes are counted."""
    shares = np.array([share_of_label(image) for image in images])
    shape = len(images), runs
    return Selections(0, np.ones(shape, dtype=bool), np.repeat(shares[:, None], runs, axis=1))


class Runs(NamedTuple):
    """Of many runs, float64 (runs,): mean votes an image, and certified accuracy."""

    votes: np.ndarray
    accuracy: np.ndarray


def play_all(
    stages: Sequence[StoppingPoints],
    selections: Sequence[Selections],
    rng: np.random.Generator,
    label_aware: bool = False,
) -> Runs:
    """Draws what a plan does in many runs.

    Args:
        stages: where its stages end.
        selections: one a stage at least.
        rng: generator of the votes.
        label_aware: stop after a selection that did not choose the label.
    """
    shape = selections[0].share.shape
    votes, right = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=bool)
    alive = np.ones(shape, dtype=bool)
    for points, selection in zip(stages, selections, strict=False):
        votes[alive] += selection.n0
        if label_aware:
            alive &= selection.is_label
        places = np.flatnonzero(alive)
        shares, inverse = np.unique(selection.share.ravel()[places], return_inverse=True)
        order = np.argsort(inverse, kind="stable")
        parts = np.split(places[order], np.cumsum(np.bincount(inverse))[:-1])
        for share, part in zip(shares.tolist(), parts, strict=True):
            drawn = points.draw(share, len(part), rng)
            outcome = points.outcome[drawn]
            votes.ravel()[part] += points.n[drawn]
            right.ravel()[part] = (outcome == CERTIFIED) & selection.is_label.ravel()[part]
            alive.ravel()[part] = outcome == UNDECIDED
    return Runs(votes.mean(axis=0), right.mean(axis=0))


def cells(found: Runs) -> list[str]:
    """Means with what 95 % of runs lie within."""
    (low, high), (least, most) = (np.percentile(column, [2.5, 97.5]) for column in found)
    return [
        f"{found.votes.mean():,.0f} [{low:,.0f}, {high:,.0f}]",
        f"{found.accuracy.mean():.4f} [{least:.3f}, {most:.3f}]",
    ]


def row(name: str, columns: Sequence[str]) -> str:
    return f"| {name} | {' | '.join(columns)} |"


def head(first: str, columns: Sequence[str]) -> str:
    return f"{row(first, columns)}\n{row('---', ['---'] * len(columns))}"


def compare(images: list[PilotImage], sigma: float, runs: int, giving_up: float) -> None:
    """Prints the tables of one file and one error of giving up."""
    rng = np.random.default_rng(0)
    by_votes = [select_all(images, runs, rng) for _ in range(3)]  # Horvath's phases select anew
    given = [told(images, runs)]
    titles = [title for r in RADII for title in (f"votes, {r}", f"accuracy, {r}")]
    print(head(f"n0 = {N0} for all", titles))
    for name, plan in PLANS.items():
        found = [play_all(points_of(plan, sigma, r, giving_up), by_votes, rng) for r in RADII]
        print(row(name, [cell for runs in found for cell in cells(runs)]), flush=True)
    print()
    print(head("who is told the label", titles))
    for name, plan, selections in (
        ("Horvath, as Voracek ran it, no selection", "kept", given),
        ("Voracek, union bound, no selection", "union bound", given),
        ("Voracek, betting, no selection", "betting", given),
        ("Voracek, betting for 1 / (2 alpha), no selection", "as coded", given),
        (f"ours, label-aware, n0 = {N0}", "ours", by_votes),
        (f"ours with the peers' giving up, label-aware, n0 = {N0}", "ours at p_r", by_votes),
    ):
        found = [
            play_all(points_of(plan, sigma, r, giving_up), selections, rng, label_aware=True)
            for r in RADII
        ]
        print(row(name, [cell for runs in found for cell in cells(runs)]), flush=True)
    print()


def print_exact(sigma: float, giving_up: float) -> None:
    """Prints what is a matter of the plans alone: no images, no simulation."""
    titles = [
        title
        for r in RADII
        for title in (f"overstates, {r}", f"gives up, {r}", f"loses at most, {r}")
    ]
    print(head("exact", titles))
    for name, plan in PLANS.items():
        columns = []
        for radius in RADII:
            p = float(ndtr(radius / sigma))
            # Where one that votes N times is in two minds, and beyond.
            near = p + np.linspace(0, 8, 41) * np.sqrt(p * (1 - p) / N)
            points = points_of(plan, sigma, radius, giving_up)
            all_votes = points_of("fixed", sigma, radius, 0.0)
            lost = [power(all_votes, 0, q)[1] - power(points, 0, q)[1] for q in near]
            at = power(points, 0, p)
            columns += [f"{at.certified:.5f}", f"{at.given_up:.4f}", f"{max(0.0, *lost):.3f}"]
        print(row(name, columns), flush=True)
    print()


def draw_figure(path: Path, sigma: float, radius: float, giving_up: float) -> None:
    """Expected votes against the radius that the image's share has, exactly."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 4.2), layout="constrained")
    axes = figure.subplots()
    true = np.unique(
        np.concatenate([np.linspace(0, 1.75, 176), np.linspace(radius - 0.1, radius + 0.1, 81)])
    )
    shown = [
        name for name, plan in PLANS.items() if plan not in ("published", "as coded", "ours at p_r")
    ]
    for i, name in enumerate(shown):
        points = points_of(PLANS[name], sigma, radius, giving_up)
        votes = [power(points, N0, float(ndtr(r / sigma))).votes for r in true]
        axes.plot(true, votes, STYLES[i % len(STYLES)], color=COLOURS[i], label=name)
    axes.set(
        yscale="log",
        xlabel=f"radius of the image's true probability, sigma = {sigma:g}",
        ylabel="expected votes, selection included",
        title=f"Is radius {radius:g} certified? N = {N:,}, alpha = {ALPHA:g}, error of giving up {giving_up:g}",
    )
    axes.title.set_fontsize("medium")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    figure.savefig(path, dpi=DPI)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", type=Path, nargs="*", metavar="FILE")
    parser.add_argument("--sigma", type=float, default=0.5, help="of tables, and of the figure")
    parser.add_argument("--table_n", type=int, default=100_000, help="votes of a table's images")
    parser.add_argument("--table_alpha", type=float, default=0.001, help="of a table's radii")
    parser.add_argument("--runs", type=int, default=1000, help="runs to draw")
    parser.add_argument("--figure", type=Path, help="file for the figure")
    args = parser.parse_args(arguments)
    for giving_up in ERRORS:
        print(f"### Error of giving up {giving_up:g}, whatever the images\n")
        print_exact(args.sigma, giving_up)
    for path in args.files:
        if path.suffix == ".jsonl":
            images, sigma = images_of_journal(path)
        else:
            sigma = args.sigma
            images = images_of_table(path, sigma, args.table_n, args.table_alpha)
        for giving_up in ERRORS:
            print(f"### {path.name}, {len(images)} images, error of giving up {giving_up:g}\n")
            compare(images, sigma, args.runs, giving_up)
    if args.figure:
        draw_figure(args.figure, args.sigma, 0.5, ERRORS[0])


if __name__ == "__main__":
    main()
