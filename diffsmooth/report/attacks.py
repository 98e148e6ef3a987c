"""What attacks found, as tables: empirical beside certified accuracy, and the tries."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from diffsmooth.report.radii import distinct
from diffsmooth.report.text import MISSING
from diffsmooth.report.writers import Section
from diffsmooth.runs.attacked import AttackRun
from diffsmooth.runs.reading import Run
from diffsmooth.stats import ABSTAIN, ImageRecord
from diffsmooth.stats.attacks import Attack
from diffsmooth.stats.empirical import Empirical
from diffsmooth.stats.errors import UserError
from diffsmooth.stats.printed import counted, exact, radius_label, rounded_down, rounded_up

BEYOND, MOST_BEYOND = 0.5, 5.0  # steps of radii beyond those that can be certified, and their end


def run_of(one: AttackRun, runs: Sequence[Run]) -> Run:
    """The run that was attacked.

    Raises:
        UserError: it is none of the runs.
    """
    for run in runs:
        origin = run.records[0].origin if run.records else None
        if origin is not None and origin.identity == one.attacked:
            _check_certificates(one, run)
            return run
    raise UserError(f"{one.path}: is of attacks on another run than those of this report")


def _check_certificates(one: AttackRun, run: Run) -> None:
    """Raises UserError for a try on a certificate that the attacked run does not have."""
    certified = {record.index: record for record in run.records}
    for record in one.records:
        attack = record.attack
        of = None if attack is None else certified.get(attack.image)
        if attack is None or of is None:
            raise UserError(f"{one.path}: try {record.index} is on no image of {run.path}")
        told, own = (attack.certified, attack.radius), of.certificate
        same = told[0] == own.prediction and math.isclose(told[1], own.radius, rel_tol=1e-6)
        if not same or record.label != of.label:
            raise UserError(
                f"{one.path}: try {record.index} is on image {attack.image}, class {told[0]} "
                f"within {told[1]}, label {record.label}; {run.path} has class {own.prediction} "
                f"within {own.radius}, label {of.label}"
            )


def attack_sections(
    one: AttackRun, run: Run, radii: np.ndarray, decimals: int = 3
) -> list[Section]:
    """The tables of a run of attacks, under its name; at radii (R,), and those of its own."""
    return [
        section._replace(title=f"{one.name}: {section.title}")
        for section in sections_of(one.found, one.records, run, radii, decimals)
    ]


def sections_of(
    found: Empirical,
    records: Sequence[ImageRecord],
    run: Run,
    radii: np.ndarray,
    decimals: int = 3,
) -> list[Section]:
    """The tables: at radii (R,), at absolute budgets, and wherever accuracy still falls."""
    budgets = {r.attack.budget for r in records if r.attack and not r.attack.factor}
    falls = found.wrong_from[np.isfinite(found.wrong_from)].max(initial=0.0)
    beyond = np.arange(0.0, min(falls + BEYOND, MOST_BEYOND), BEYOND)
    radii = distinct([*radii, *budgets, *beyond[beyond > max(radii, default=0.0)]])
    has_accuracy = found.is_labelled and len(found)
    measured = run.results.measures(radii)
    sections = [empirical_table(found, radii, measured, decimals)] if has_accuracy else []
    return [*sections, tries_table(records)]


def empirical_table(
    found: Empirical, radii: np.ndarray, measured: np.ndarray, decimals: int = 3
) -> Section:
    """Certified and empirical accuracy at radii (R,), and the gap between them.

    Args:
        found: of at least one image, with labels.
        radii: l2, in [0, 1] pixel units.
        measured: bool (R,), where the attacked run measured certified accuracy.
        decimals: of the numbers.
    """
    certified = found.certified_accuracy(radii)
    kept, lost = (found.accuracy(radii, is_right) for is_right in (True, False))
    gap = np.round((kept - certified) * len(found)) / len(found)  # of whole images
    rows = {
        "certified": _where(measured, [rounded_down(value, decimals) for value in certified]),
        "empirical (abstained: right)": [rounded_up(value, decimals) for value in kept],
        "empirical (abstained: wrong)": [rounded_up(value, decimals) for value in lost],
        "gap": _where(measured, [rounded_up(value, decimals) for value in gap]),
    }
    return Section(
        f"Accuracy of the {len(found)} attacked images by radius (l2, in [0, 1] pixel units): "
        "certified, and left by the attacks, an upper bound",
        pd.DataFrame.from_dict(rows, "index", columns=[*map(radius_label, radii)]),
    )


def tries_table(records: Sequence[ImageRecord]) -> Section:
    """Of each kind of try: on how many images, and what PREDICT then said."""
    kinds: dict[str, list[ImageRecord]] = {}
    for record in sorted(records, key=lambda record: record.index):
        assert record.attack is not None
        kinds.setdefault(try_name(record.attack), []).append(record)
    rows = {}
    for name, some in kinds.items():
        answers = [(r.certificate.prediction, _left(r)) for r in some if not r.error]
        counts = [
            sum(prediction == left for prediction, left in answers),
            sum(prediction == ABSTAIN for prediction, _ in answers),
            sum(prediction not in (ABSTAIN, left) for prediction, left in answers),
            len(some) - len(answers),
        ]
        rows[name] = [str(count) for count in (len(some), *counts)]
    columns = ["tries", "class held", "abstained", "another class", "failed"]
    return Section(
        "Predictions of attacked images; the class is the certified one, or else the label",
        pd.DataFrame.from_dict(rows, "index", columns=columns),
    )


def try_name(attack: Attack) -> str:
    """A kind of try: pgd at a budget, ddn up to one."""
    if not attack.method:
        return "as it is"
    how = "ddn up to" if attack.method == "ddn" else attack.method
    size = f"{exact(attack.factor)} x radius" if attack.factor else f"l2 {exact(attack.budget)}"
    return f"{how} {size}"


def flip_remarks(found: Empirical, records: Sequence[ImageRecord]) -> list[str]:
    """The smallest flips of certified images, and how many tries stayed inside certificates."""
    certified = found.certified != ABSTAIN
    flipped = np.isfinite(found.flip) & certified
    inside = [r for r in records if r.attack is not None and not r.error and r.attack.is_inside]
    held = sum(r.certificate.prediction == r.attack.certified for r in inside if r.attack)
    remarks = [
        f"{counted(len(inside), 'try')} within certificates: the class held in {held}, PREDICT "
        f"abstained in {sum(r.certificate.prediction == ABSTAIN for r in inside)}"
    ]
    if flipped.any():
        ratios = found.flip[flipped] / found.radius[flipped]
        remarks.append(
            f"smallest flips, of {flipped.sum()} of {certified.sum()} certified images: median "
            f"{rounded_up(float(np.median(found.flip[flipped])))}, "
            f"{rounded_up(float(np.median(ratios)), 2)} times the certified radius, at least "
            f"{rounded_down(float(ratios.min()), 2)} times"
        )
    else:
        remarks.append(f"none of {certified.sum()} certified images was flipped")
    if found.failed:
        remarks.append(f"{found.failed} tries failed and count for nothing")
    return remarks


def _where(measured: np.ndarray, texts: list[str]) -> list[str]:
    return [text if known else MISSING for text, known in zip(texts, measured, strict=True)]


def _left(record: ImageRecord) -> int | None:
    """The class that the try was to leave."""
    assert record.attack is not None
    certified = record.attack.certified
    return record.label if certified == ABSTAIN else certified
