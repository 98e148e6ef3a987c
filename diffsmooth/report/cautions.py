"""What a reviewer would ask of a report's numbers, and what to do about it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from diffsmooth.report.names import known_classes
from diffsmooth.report.text import interval_text
from diffsmooth.runs.attacked import AttackRun
from diffsmooth.runs.reading import Run
from diffsmooth.shown_text import shown
from diffsmooth.stats import largest_radius
from diffsmooth.stats.curves import share_interval
from diffsmooth.stats.printed import exact, ordinal, radius_label, rounded_down

WIDE = 0.02  # of a 95 % interval: at an accuracy of 1/2, that of 10,000 images is narrower
NEAR = 0.9  # of the largest possible radius: from there on, accuracy tells of N
CAPPED = 0.1  # of the images: if so many have that radius, the average tells of N
FEW = 0.5  # of the classes that as many images drawn at random are of
SAME = 1e-9  # radii that differ by no more, relatively, are one
MORE = 10  # times as many votes, of which it is told how far they reach


class Caution(NamedTuple):
    """A caution.

    Attributes:
        runs: names of the runs that it is of; empty where it is of the comparison.
        finding: what a number does not say of itself.
        advice: what to do.
    """

    runs: tuple[str, ...]
    finding: str
    advice: str


def caution_lines(
    runs: Sequence[Run],
    radii: np.ndarray,
    attacks: Sequence[tuple[AttackRun, Run]] = (),
    paired: bool = False,
) -> list[str]:
    """The cautions, one line each; see `cautions`."""
    lines = []
    for names, finding, advice in cautions(runs, radii, attacks, paired):
        everyone = len(names) == len(runs) > 1
        whose = "all runs: " if everyone else f"{', '.join(names)}: " if names else ""
        lines.append(f"{whose}{finding}; {advice}")
    return lines


def cautions(
    runs: Sequence[Run],
    radii: np.ndarray,
    attacks: Sequence[tuple[AttackRun, Run]] = (),
    paired: bool = False,
) -> list[Caution]:
    """What must be asked of the runs' tables: each thing once, of however many runs it is.

    Args:
        runs: with at least one image each.
        radii: float64 (R,), of the tables, l2, in [0, 1] pixel units.
        attacks: each with the run that was attacked.
        paired: whether the runs are compared image by image beside that.
    """
    whose: dict[tuple[str, str], list[str]] = {}
    for said_of in (
        lambda run: _which_images(run, paired),
        _which_classes,
        lambda run: _near_largest(run, radii),
    ):
        for run in runs:
            if said := said_of(run):
                whose.setdefault(said, []).append(run.name)
    found = [Caution(tuple(names), *said) for said, names in whose.items()]
    if len({run.results.index.tobytes() for run in runs}) > 1:
        advice = "certify the same ones (--skip, --max) before small differences are read"
        found.append(Caution((), "the runs are not on the same images", advice))
    certified = [run for run in runs if run.results.certifies]
    found += _different(
        "N", {run.name: _votes(run) for run in certified}, "{:,}".format,
        "N alone moves abstentions, ACR and accuracy at large radii: certify again with one N",
    )  # fmt: skip
    found += _different(
        "plan", {run.name: _plan(run) for run in certified if run.results.plan}, shown,
        "what stops early understates where it does not decide: compare at the radii of its grid, "
        "or certify again with one --plan",
    )  # fmt: skip
    found += _different(
        "alpha", {run.name: run.results.alpha for run in runs if run.results.alpha}, exact,
        "--alpha analyses the votes of all at one",
    )  # fmt: skip
    for one, run in attacks:
        if len(one.found) < len(run.results):
            finding = f"the attacks were on {len(one.found):,} of {len(run.results):,} images"
            advice = (
                f"compare with the row 'certified' of its own table, not with that of {run.name}"
            )
            found.append(Caution((one.name,), finding, advice))
    return found


def _which_images(run: Run, paired: bool) -> tuple[str, str] | None:
    """Which images of how many, and how much that leaves open; None where nobody would ask."""
    index, images, size = run.results.index, len(run.results), run.identity.get("size")
    low, high = share_interval(np.array([images // 2]), images)[0]
    known, whole = type(size) is int, size == images
    if (whole or not known) and high - low <= WIDE:
        return None
    steps = set(np.diff(index).tolist())
    step = steps.pop() if len(steps) == 1 else 0
    which = [f"every {ordinal(step)}"] if step > 1 else []
    which += ["the first"] if step == 1 and index[0] == 0 and not whole else []
    which += [] if known else ["of how many is not told"]
    count = f"all {images:,}" if whole else f"{images:,} of {size:,}" if known else f"{images:,}"
    details = f" ({'; '.join(which)})" if which else ""
    finding = (
        f"{count} images{details}: of so many, an accuracy near 0.5 has the 95 % interval "
        f"{interval_text(low, high)}"
    )
    advice = [] if whole else ["certify more of them (--skip, --max)"]
    advice.append(
        "read the comparison image by image" if paired else "compare runs image by image (--paired)"
    )
    return finding, ", or ".join(advice)


def few_classes(labels: np.ndarray, names: Sequence[str]) -> str:
    """Of which classes some images are, where that are few for so many; "" otherwise.

    Args:
        labels: (N,); one that is negative tells that they are not known.
        names: of all classes; none where they are not known.
    """
    there, classes = np.unique(labels), len(names)
    if classes < 2 or there.min(initial=0) < 0:
        return ""
    expected = classes * (1 - (1 - 1 / classes) ** len(labels))  # of labels drawn at random
    if len(there) >= FEW * expected:
        return ""
    if len(there) == 1:
        return f"all of one class, {shown(names[int(there[0])])}"
    return f"of {len(there):,} of {classes:,} classes"


def _which_classes(run: Run) -> tuple[str, str] | None:
    """That the images are of few classes, as the first ones of a folder are."""
    few = few_classes(run.results.label, known_classes(run))
    if not few:
        return None
    return f"the images are {few}", "take them from all of the data set (--skip)"


def _near_largest(run: Run, radii: np.ndarray) -> tuple[str, str] | None:
    """What the number of votes keeps from being larger; None where that is little."""
    results, votes = run.results, _votes(run)
    right = results.radius[results.correct] if results.certifies else np.zeros(0)
    known = results.max_radius is not None
    largest = float(right.max(initial=0.0)) if results.max_radius is None else results.max_radius
    having = int(np.sum(right >= largest * (1 - SAME)))
    capped = having >= max(CAPPED * len(results), 1 if known else 2)
    near = [radius_label(r) for r in radii if known and NEAR * largest < r <= largest]
    if not largest or not (capped or near):
        return None
    shown_radius = rounded_down(largest)
    if known:
        by = "the votes" if votes is None else f"N = {votes:,} votes"
        finding = f"{by} give radius {shown_radius} at most"
        finding += ", and a tenth of the images or more have it" if capped else ""
    else:
        finding = f"a tenth of the images or more have the largest radius, {shown_radius}, which"
        finding += " may be all that N gives"
    raised = ["ACR"] if capped and not results.understates else []
    raised += [f"accuracy at {' and '.join(near)}"] if near else []
    finding += f": more votes may raise {' and '.join(raised) or 'the radii'}"
    advice = "certify with a larger --N"
    if votes and results.sigma and results.alpha and results.plan == "fixed":
        reach = largest_radius(results.sigma, MORE * votes, results.alpha)
        advice += f" ({MORE * votes:,} reaches {rounded_down(reach)})"
    return finding, advice


def _votes(run: Run) -> int | None:
    """N: the most estimation votes of an image; None where no journal tells."""
    return run.records[0].certificate.max_n if run.records else None


def _plan(run: Run) -> str:
    """The plan, and what of it moves radii beside N and alpha, in words."""
    results, told = run.results, [str(run.results.plan)]
    told += ["of some radii"] if results.grid else []
    if run.records and run.records[0].certificate.tolerance is not None:
        told.append(f"to a tolerance of {exact(run.records[0].certificate.tolerance)}")
    skipped = any(record.certificate.status == "skipped" for record in run.records)
    return " ".join(told) + ", label-aware" * skipped


def _different(
    what: str, values: Mapping[str, Any], text: Callable[[Any], str], advice: str
) -> list[Caution]:
    """A caution where runs' values, by name, differ or may differ; None is not known."""
    if len(set(values.values())) < 2:
        return []
    each = ", ".join(
        f"{name} {'not known' if value is None else text(value)}" for name, value in values.items()
    )
    may = "may be" if None in values.values() and len(set(values.values())) == 2 else "are"
    return [Caution((), f"the runs {may} of different {what}: {each}", advice)]
