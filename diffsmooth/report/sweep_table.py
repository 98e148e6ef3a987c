"""A sweep over settings of the local smoothing: which is best, and which cannot be told from it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from diffsmooth.models.smoothing.sweep import Setting
from diffsmooth.stats.outlook import Contrast, Goal, Share, contrast_of, share_of
from diffsmooth.stats.printed import digits_up, exact, rounded_down, rounded_up, signed

LEVEL = 0.05  # of the test against the setting that is taken


class SweepRow(NamedTuple):
    """A setting and how it did.

    Attributes:
        setting: sigma_local and m.
        estimate: share of images whose label's share of the votes reaches the goal's: an estimate
            of the planned run's certified accuracy at the radius.
        mean_share: mean over images of the label's share of the votes.
        beside: its estimate less that of the setting that is taken, on the same images.
    """

    setting: Setting
    estimate: Share
    mean_share: float
    beside: Contrast


class SweepOutcome(NamedTuple):
    """A whole sweep.

    Attributes:
        rows: by sigma_local, then m.
        best: the one of them that is to be taken.
        fresh: the estimate on images that did not choose: of the best by each half of the images,
            on the other half. None for one setting, or one image.
        goal: by which they are judged.
        sigma: noise level of the votes, [0, 1] pixel units.
        trained: noise level that the classifier was trained at (sigma'), None where not known.
        images: number of images.
        votes: votes an image.
        kind: what the images are to the classifier, in words.
    """

    rows: tuple[SweepRow, ...]
    best: SweepRow
    fresh: Share | None
    goal: Goal
    sigma: float
    trained: float | None
    images: int
    votes: int
    kind: str

    @property
    def alike(self) -> list[SweepRow]:
        """The settings that these images do not tell from the best, without it."""
        others = (row for row in self.rows if row is not self.best)
        return [row for row in others if row.beside.p_value > LEVEL]


def judge(
    settings: Sequence[Setting],
    label_votes: np.ndarray,
    votes: int,
    goal: Goal,
    sigma: float,
    trained: float | None,
    kind: str = "images",
) -> SweepOutcome:
    """The outcome of a sweep.

    The best setting has the highest share of images that reach the goal. Ties go to the larger mean
    share of votes, then to the smaller m, which is cheaper, then to the sigma_local nearest to the
    noise that the classifier was trained at, or to the smaller one where that is not known.

    Args:
        settings: S, at least one, all different.
        label_votes: integers (S, M): of each image's votes, those for its label; the same images in
            the same order for all settings.
        votes: votes an image, all of them.
        goal: by which they are judged.
        sigma, trained, kind: see `SweepOutcome`.
    """
    hits = goal.reached(label_votes, votes)
    best = _best(settings, label_votes, hits, trained)
    rows = [
        SweepRow(
            setting,
            share_of(hits[i]),
            float(label_votes[i].sum() / (votes * hits.shape[1])),
            contrast_of(hits[i], hits[best]),
        )
        for i, setting in enumerate(settings)
    ]
    fresh = None
    if min(hits.shape) > 1:
        halves = [np.arange(hits.shape[1]) % 2 == half for half in (0, 1)]
        chosen = [_best(settings, label_votes[:, h], hits[:, h], trained) for h in halves]
        others = [hits[i, ~half] for i, half in zip(chosen, halves, strict=True)]
        fresh = share_of(np.concatenate(others))
    ordered = tuple(sorted(rows, key=lambda row: row.setting))
    images = hits.shape[1]
    return SweepOutcome(ordered, rows[best], fresh, goal, sigma, trained, images, votes, kind)


def _best(
    settings: Sequence[Setting], label_votes: np.ndarray, hits: np.ndarray, trained: float | None
) -> int:
    def merit(i: int) -> tuple[float, ...]:
        # Rounded: two levels that are as far from sigma' differ in the last bits.
        away = round(abs(settings[i].sigma_local - (trained or 0.0)), 9)
        return int(hits[i].sum()), int(label_votes[i].sum()), -settings[i].m, -away

    return max(range(len(settings)), key=merit)


def sweep_frame(outcome: SweepOutcome) -> pd.DataFrame:
    """One row a setting, as numbers."""
    goal = outcome.goal
    return pd.DataFrame(
        [
            {
                "sigma_local": row.setting.sigma_local,
                "m": row.setting.m,
                "estimated_certified_accuracy": row.estimate.value,
                "estimate_low_95": row.estimate.low,
                "estimate_high_95": row.estimate.high,
                "less_taken": row.beside.value,
                "less_taken_low_95": row.beside.interval.low,
                "less_taken_high_95": row.beside.interval.high,
                "mcnemar_p_value": row.beside.p_value,
                "mean_share_of_votes_for_label": row.mean_share,
                "taken": int(row is outcome.best),
                "radius": goal.radius,
                "share_of_votes_needed": goal.share,
                "planned_n": goal.n,
                "planned_alpha": goal.alpha,
                "images": outcome.images,
                "votes_an_image": outcome.votes,
            }
            for row in outcome.rows
        ]
    )


def goal_text(outcome: SweepOutcome) -> str:
    """What the estimate is, in a sentence."""
    goal = outcome.goal
    return (
        f"estimate: the share of images whose label gets at least {rounded_up(goal.share, 4)} of "
        f"{outcome.votes} votes, which is what the planned run (N {goal.n}, alpha "
        f"{exact(goal.alpha)}, {goal.plan}) needs to certify radius {exact(goal.radius)}; "
        "no certificate"
    )


def sweep_text(outcome: SweepOutcome) -> str:
    """The table, what is taken, and what the table does not say."""
    lines = [
        goal_text(outcome),
        "sigma_local    m   estimate   95 % interval    less the taken one's (95 %)   "
        "mean share of votes",
    ]
    for row in outcome.rows:
        beside, estimate = row.beside, row.estimate
        told = "differs" if beside.p_value <= LEVEL else "not told apart"
        mark = "<- taken" if row is outcome.best else f"{told} (p {digits_up(beside.p_value, 2)})"
        interval = f"{rounded_down(beside.interval.low)} .. {rounded_up(beside.interval.high)}"
        less = "" if row is outcome.best else f"{signed(beside.value)} ({interval})"
        lines.append(
            f"{exact(row.setting.sigma_local):>11}   {row.setting.m:2}   "
            f"{rounded_down(estimate.value):>8}   "
            f"{rounded_down(estimate.low)} .. {rounded_up(estimate.high)}   "
            f"{less:<27}   {rounded_down(row.mean_share):>19}   {mark}"
        )
    best, others, alike = outcome.best, len(outcome.rows) - 1, len(outcome.alike)
    lines += [
        f"taken: sigma_local {exact(best.setting.sigma_local)}, m {best.setting.m}; of "
        f"{outcome.images} images {outcome.images * best.estimate.value:.0f} reach the share",
    ]
    if not best.estimate.value:
        lines.append(
            "no setting reaches it on an image, so this choice says nothing: try a smaller radius, "
            "or look at the checkpoints by `diffsmooth doctor`"
        )
    elif others:
        lines.append(
            f"{alike} of the {others} others cannot be told from it by these images (exact paired "
            f"McNemar test, {100 * LEVEL:g} %, each by itself)"
        )
    return "\n".join([*lines, *curse_text(outcome)])


def curse_text(outcome: SweepOutcome) -> list[str]:
    """That the best of several looks better than it is, and by how much about; in lines."""
    fresh, best = outcome.fresh, outcome.best
    if len(outcome.rows) < 2 or not best.estimate.value:
        return []
    lines = [
        f"the best of {len(outcome.rows)} settings, on the images that chose it, looks better than "
        "it is: certify the test images for a number to report"
    ]
    if fresh is not None:
        lines.append(
            "chosen by each half of the images and judged on the other, so on images that did not "
            f"choose: {rounded_down(fresh.value)} ({rounded_down(fresh.low)} .. "
            f"{rounded_up(fresh.high)})"
        )
    return lines
