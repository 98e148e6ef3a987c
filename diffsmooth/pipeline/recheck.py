"""Does a line of a journal follow from its votes? Each field is told that does not.

What the reader of journals (`runs/line.py`) refuses at its first fault is taken apart here, and
computed by `exact_votes`, which shares nothing with what has written it.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any, NamedTuple

from diffsmooth.pipeline.exact_votes import (
    ExactPlan,
    answer_fault,
    bound_fault,
    largest_radius_fault,
    radius_fault,
)
from diffsmooth.shown_text import quoted
from diffsmooth.stats.certificate import ABSTAIN, NO_CLASS, Certificate
from diffsmooth.stats.results import Origin, kind_of_noise

ORIGIN = {field.name for field in fields(Origin)}
FORMAT_2 = {"format", "checksum", *ORIGIN}
ALWAYS = {"index", "label", "correct", "seconds", "error", *(f.name for f in fields(Certificate))}
COUNTS = ("selection_counts", "estimation_counts")
MOST = 1e300  # of any number in a line
MOST_CLASSES = 10**6
NUMBERS = ("seconds", "p_lower", "radius", "max_radius", "sigma", "alpha")


class Expected(NamedTuple):
    """What a run says of each of its lines.

    Attributes:
        plan: None where no manifest tells it: then each line tells its own.
        told: fields that all lines have, by the manifest; empty without one.
        classes: number of classes, where it is known.
        is_old: whether lines may be of format 1, which have no checksum.
    """

    plan: ExactPlan | None
    told: Mapping[str, Any]
    classes: int | None
    is_old: bool


class Finding(NamedTuple):
    """What is wrong with a field."""

    field: str
    text: str


def parse_line(line: str) -> dict[str, Any]:
    """The fields of a line.

    Raises:
        ValueError: it is no JSON object, or names a field twice.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ValueError("a field stands twice")
        return found

    try:
        parsed = json.loads(line, object_pairs_hook=once)
    except RecursionError as problem:
        raise ValueError("is nested too deeply") from problem
    if not isinstance(parsed, dict):
        raise ValueError("is no record")
    return parsed


def line_faults(line: Mapping[str, Any], expected: Expected) -> list[Finding]:
    """All that does not follow, of the fields of one line."""
    known, may_lack = ALWAYS | FORMAT_2, set[str]()
    if "format" not in line:
        known, may_lack = ALWAYS, {"first_look"}
    missing = sorted(known - may_lack - line.keys())
    found = [Finding(name, "is missing") for name in missing]
    found += [Finding(quoted(name), "is no field") for name in sorted(line.keys() - known)]
    if "format" in line:
        if line["format"] != 2:
            found.append(Finding("format", f"is {quoted(line['format'])}, not 1 or 2"))
        elif line.get("checksum") != checksum(line):
            found.append(Finding("checksum", "does not fit: the line was changed, or damaged"))
    elif not expected.is_old:
        found.append(Finding("format", "is 1, which no run of such a manifest writes"))
    if missing:
        return found
    found += _unsound(line, expected)
    if not found or {one.field for one in found} <= {"checksum", "format", "identity"}:
        found += _not_following(line, expected)
    return found


def checksum(line: Mapping[str, Any]) -> str:
    """16 hex digits of all that a line says, but for the seconds and the checksum itself."""
    said = {name: line[name] for name in line if name not in ("seconds", "checksum")}
    text = json.dumps(said, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def is_count(value: object, least: int = 0) -> bool:
    """Whether a value is a whole number from `least` on; true and false are none."""
    return type(value) is int and value >= least


def _unsound(line: Mapping[str, Any], expected: Expected) -> list[Finding]:
    """Fields that are not what they must be whatever the votes are."""
    label, classes, found = line["label"], expected.classes, list[Finding]()

    def must(name: str, holds: bool, what: str) -> None:
        if not holds:
            found.append(Finding(name, f"is {quoted(line[name])}, {what}"))

    must("index", is_count(line["index"]), "not an image's number")
    must("label", label is None or is_count(label), "not a class")
    if classes is not None and is_count(label):
        must("label", label < classes, f"but there are {classes} classes")
    for name in NUMBERS:
        value = line[name]
        must(name, type(value) in (int, float) and 0 <= value < MOST, "not a number >= 0")
    if not found:
        must("p_lower", line["p_lower"] < 1, "not a probability that votes can prove")
        must("sigma", 1e-30 < line["sigma"] < 1e30, "not a noise level")
    must("error", type(line["error"]) is str, "not a text")
    for name, least in (*((one, NO_CLASS) for one in COUNTS), ("looks", 0)):
        must(name, _is_pairs(line[name], least), "not pairs of whole numbers")
    if not found:  # a classifier may know more classes than its images have
        for name in COUNTS:
            beyond = any(one >= MOST_CLASSES for one, _ in line[name])
            must(name, not beyond, "but no network tells so many classes apart")
    if "format" in line:
        words = all(type(line[name]) is str for name in ("image", "file"))
        must("image", words, "not a digest beside a file's name")
        must("image", bool(line["image"] or line["error"]), "but there are votes of an image")
    for name, value in expected.told.items():
        if name in line and not _same(line[name], value):
            found.append(Finding(name, f"is {quoted(line[name])}, the manifest's {quoted(value)}"))
    return found


def _is_pairs(value: object, least: int) -> bool:
    """Whether a value is a list of pairs of whole numbers, the first of each from `least` on."""
    return isinstance(value, list) and all(
        isinstance(pair, list) and len(pair) == 2 and is_count(pair[0], least) and is_count(pair[1])
        for pair in value
    )


def _same(one: object, other: object) -> bool:
    """Whether two values are equal, and 1, 1.0 and true are not."""
    if type(one) is not type(other):
        return False
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return one == other


def _not_following(line: Mapping[str, Any], expected: Expected) -> list[Finding]:
    """Fields that do not follow from the votes, of a line that is sound otherwise."""
    try:
        plan = expected.plan or plan_of_line(line)
    except ValueError as problem:
        return [Finding("plan", str(problem))]
    found = list(_votes_faults(line, plan))
    if found:  # nothing follows from such votes
        return found
    selection, estimation = (dict(line[f"{name}_counts"]) for name in ("selection", "estimation"))
    looks, n = tuple((n, s) for n, s in line["looks"]), sum(estimation.values())
    levels = plan.with_levels()[1]
    p_lower, failed, selected = line["p_lower"], bool(line["error"]), line["selected"]
    status, answers = "failed", False
    if not failed:
        selected = _first_of_most(selection or estimation)
        if plan.word == "majority":
            status = "answered" if line["prediction"] != ABSTAIN else "abstained"
        else:
            status = "certified" if p_lower > 0.5 else "abstained" if looks else "skipped"
        answers = status in ("certified", "answered")
    prediction = selected if answers else ABSTAIN
    label = line["label"]
    follows = {
        **plan.fields,
        "status": status,
        "n0": sum(selection.values()),
        "n": n,
        "votes": sum(selection.values()) + n,
        "selected": ABSTAIN if failed else selected,
        "prediction": prediction,
        "correct": None if label is None else prediction == label,
    }
    if "format" not in line and not line.get("first_look"):  # format 1 does not always tell
        del follows["first_look"]
    for name, value in follows.items():
        if not _same(line[name], value):
            found.append(Finding(name, f"is {quoted(line[name])}, its votes give {quoted(value)}"))
    if plan.word == "majority" and not failed:
        votes, void = tuple(estimation.values()), NO_CLASS in estimation
        text = "" if void and not answers else answer_fault(answers, votes, plan.alpha)
        text = "but a vote is void: PREDICT abstains" if void and answers else text
        found += [Finding("prediction", f"is {line['prediction']}, {text}")] if text else []
    certifies = plan.word != "majority" and not failed
    texts = {
        "p_lower": bound_fault(float(p_lower), looks if certifies else (), levels),
        "radius": radius_fault(float(line["radius"]), float(p_lower), float(line["sigma"])),
        "max_radius": largest_radius_fault(float(line["max_radius"]), plan, float(line["sigma"])),
    }
    return [*found, *(Finding(name, text) for name, text in texts.items() if text)]


def plan_of_line(line: Mapping[str, Any]) -> ExactPlan:
    """The plan that a line of format 1 tells, where no manifest does.

    Raises:
        ValueError: none that can be checked.
    """
    word, looks, skipped = line["plan"], line["looks"], line["status"] == "skipped"
    if word not in ("fixed", "group_sequential", "majority"):
        raise ValueError(f"is {quoted(word)}, which is none that can be checked")
    plan = ExactPlan(word, line["n0"], line["max_n"], line["alpha"])
    if word == "group_sequential":
        first = line.get("first_look") or (looks[0][0] if looks else 100)
        grid = line["grid"]
        if not isinstance(grid, list):
            raise ValueError("grid is no list")
        plan = plan._replace(
            radii=tuple(grid), first_look=first, tolerance=line["tolerance"], label_aware=skipped
        )
    plan.check()
    return plan


def _votes_faults(line: Mapping[str, Any], plan: ExactPlan) -> Iterable[Finding]:
    """What is wrong with the votes as such."""
    looks, failed = line["looks"], bool(line["error"])
    for name in COUNTS:
        classes = [k for k, _ in line[name]]
        if classes != sorted(set(classes)) or not all(votes for _, votes in line[name]):
            yield Finding(name, "are not of some votes each, by ascending class")
        if NO_CLASS in classes and kind_of_noise(str(line.get("noise_source"))) != "exact":
            yield Finding(name, "are void in part, as they can be with exact noise only")
    selection, estimation = dict(line["selection_counts"]), dict(line["estimation_counts"])
    if failed:
        if selection or estimation or looks:
            yield Finding("error", "tells of a failure, but there are votes")
        return
    if sum(selection.values()) != plan.n0:
        yield Finding("selection_counts", f"are {sum(selection.values())} votes, not {plan.n0}")
    chosen = selection or estimation
    if not chosen:
        yield Finding("estimation_counts", "there are no votes, but no error either")
        return
    selected, sizes = _first_of_most(chosen), plan.with_levels()[0]
    skips = plan.label_aware and selected != line["label"]
    if not looks:
        if not skips:
            yield Finding("looks", "there is none: the image was not skipped")
        elif estimation:
            yield Finding("estimation_counts", "there are some, but no look at them")
        return
    if skips:
        yield Finding("looks", "there are some, but the plan skips what is selected wrongly")
    at = [n for n, _ in looks]
    if at != list(sizes[: len(at)]):
        yield Finding("looks", f"are at {quoted(at)} votes, where the plan has none")
        return
    last = [sum(estimation.values()), estimation.get(selected, 0)]
    if looks[-1] != last:
        yield Finding(
            "estimation_counts",
            f"are {last[0]} votes with {last[1]} for class {selected}, the last look has "
            f"{looks[-1][0]} with {looks[-1][1]}",
        )
    for (n, s), (more_n, more_s) in zip([(0, 0), *looks], looks, strict=False):
        if not 0 <= more_s - s <= more_n - n:
            yield Finding("looks", f"{more_s} of {more_n} votes cannot follow on {s} of {n}")


def _first_of_most(counts: Mapping[int, int]) -> int:
    """The class of most votes, the lowest of several; 0 where all votes are void."""
    return min(counts.keys() - {NO_CLASS}, key=lambda k: (-counts[k], k), default=0)
