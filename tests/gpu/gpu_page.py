"""The page of a campaign on a GPU: what agrees, what does not, and how fast it is."""

import json
import platform
import re
import subprocess
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from xml.etree import ElementTree

if TYPE_CHECKING:
    from gpu_campaign import Outcome

Record = dict[str, Any]


class Target(NamedTuple):
    """Votes a second on one H100: the goal, the most that its products allow, and what was there.

    Measured on 2026-11-27 with torch 2.11, but for the goals.
    """

    title: str
    goal: float
    roof: float
    before: str


TARGETS = {
    "full": Target("CIFAR-10 pair, m = 5", 18_000, 40_500, "3,916; compiled 9,928"),
    "resnet110": Target("ResNet-110 alone", 300_000, 1_540_000, "about 60,000"),
    "imagenet": Target("ImageNet pair, m = 5", 200, 335, "66"),
}
# Images a second on one H100: the goals, and what was there on 2026-11-27 by other loops.
TRAINING_TARGETS = {
    "ResNet-110, Gaussian": (15_000, "5,000"),
    "ResNet-110, SmoothAdv of 10 steps": (1_200, ""),
    "U-Net of 7.3 M, averaged": (10_000, "2,900 compiled"),
}
TESTED = re.compile(r"^(tests/\S+?::.+?) (PASSED|FAILED|ERROR|SKIPPED)\b", re.M)
WHY = re.compile(r"^(?:FAILED|ERROR) (\S+?::.+?) - (.*)$", re.M)
SKIPPED = re.compile(r"^SKIPPED \[\d+\] (.*)$", re.M)


class Page(NamedTuple):
    """Markdown, and whether everything that ran agrees."""

    text: str
    agrees: bool


class Checks(NamedTuple):
    """What a part checked, in lines."""

    agreeing: list[str]
    differing: list[str]
    open: list[str]
    figures: list[str]


def page_of(outcomes: Sequence["Outcome"], folder: Path, seconds: float) -> Page:
    """The page of what has ended by now; logs and records lie in the folder."""
    checks = Checks([], [], [], [])
    records: list[Record] = []
    for outcome in outcomes:
        name, log = outcome.part.name, _read(folder / f"{outcome.part.name}.log")
        if outcome.code is None:
            checks.open.append(f"{name}: {outcome.how}")
        found = checks.differing[:]
        if name.startswith("self_test_"):
            _self_test(name, log, checks)
        elif name.startswith("test_"):
            _tests(name, log, folder / f"{name}.xml", checks)
        elif name == "trainings":
            records += _records(folder / f"{name}.json")
        elif name.startswith("bench_"):
            own = _records(folder / f"{name}.json")
            if not any(one["record"] == "EngineRate" for one in own):
                checks.open.append(f"{name}: no rate of the engine")
            records += own
        if outcome.code and found == checks.differing:
            last = next((line for line in reversed(log.splitlines()) if line.strip()), "")
            checks.differing.append(f"{name}: {outcome.how}; {_code(last[:200])}")
    checks.differing.extend(_rows_that_differ(records))
    text = "\n".join(
        [
            "# What a GPU says", "", *_head(records, seconds), "",
            "## How fast", "", *_speed(records), "", *_training_speed(records), "",
            *_list("## What does not agree", checks.differing),
            *_list("## What agrees", checks.agreeing),
            *_list("## Not settled", checks.open),
            *_list("## Figures of the tests", checks.figures),
            "## The parts", "", "| part | ended | seconds |", "| --- | --- | --- |",
            *(f"| {one.part.name} | {one.how} | {one.seconds:.0f} |" for one in outcomes), "",
        ]
    )  # fmt: skip
    return Page(text, not checks.differing)


def _read(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""


def _records(path: Path) -> list[Record]:
    return json.loads(path.read_text()) if path.exists() else []


def _code(text: str) -> str:
    return f"`{text.replace('`', '')}`"


def _list(title: str, lines: list[str]) -> list[str]:
    return [title, "", *([f"- {line}" for line in lines] or ["Nothing."]), ""]


def _head(records: list[Record], seconds: float) -> list[str]:
    import torch

    on_gpu = torch.cuda.is_available()
    card = torch.cuda.get_device_name() if on_gpu else "no GPU: tried out on a CPU, at tiny size"
    machine: Record = next((one for one in records if one["record"] == "Machine"), {})
    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    try:
        code = subprocess.run(git, capture_output=True, text=True, timeout=10).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        code = ""
    peaks = {one["dtype"]: one for one in records if one["record"] == "MatrixPeak"}
    return [
        f"{card}; torch {torch.__version__}, CUDA {torch.version.cuda}, Python "
        f"{platform.python_version()}; {datetime.now(UTC):%Y-%m-%d %H:%M} UTC; code at "
        f"{code or 'an unknown revision'}; {seconds:.0f} s.",
        *(f"Product of {one['side']} x {one['side']}, {dtype}: {one['gflops']:,.0f} GFLOP/s."
          for dtype, one in peaks.items()),
        *([f"Benchmarks on: {machine['device']}."] if machine else []),
    ]  # fmt: skip


def _speed(records: list[Record]) -> Iterator[str]:
    """Tables of votes a second, of each network, and of each kind of work."""
    yield ("| networks | engine | batch | votes/s | x published (best batch) | goal | of the goal "
           "| of the roof | 2026-11-27 |")  # fmt: skip
    yield "| --- " * 9 + "|"
    for subject, own in _by_subject(records):
        loops = [one for one in own if one["record"] == "LoopRate"]
        for one in loops:
            yield (f"| {_title(subject)} | published loop | {one['batch']:,} | "
                   f"{one['votes_per_second']:,.1f} | {one['ratio']:.2f} | | | | |")  # fmt: skip
        for one in own:
            if one["record"] == "LeftOut":
                yield f"| {_title(subject)} | {one['what']}: {one['reason']} | | | | | | | |"
            if one["record"] == "EngineRate":
                target, rate = TARGETS.get(subject["workload"]), one["votes_per_second"]
                ratio = "-" if one["ratio"] is None else f"{one['ratio']:.2f}"
                goal = "| | | |"
                if target is not None:
                    word = "reached" if rate >= target.goal else "missed"
                    goal = (f"{target.goal:,} | {100 * rate / target.goal:.0f} %, {word} | "
                            f"{100 * rate / target.roof:.0f} % | {target.before} |")  # fmt: skip
                yield (f"| {_title(subject)} | {one['setting']} | {one['batch']:,} | {rate:,.1f} | "
                       f"{ratio} | {goal}")  # fmt: skip
    yield from ("", "Goals, roofs (what a bf16 product of 781 TFLOP/s allows) and the last column "
                "are of one H100.", "")  # fmt: skip
    yield "| networks | engine | network | ms a vote | GFLOP/s | of the product's peak |"
    yield "| --- " * 6 + "|"
    for subject, own in _by_subject(records):
        for one in own:
            if one["record"] == "NetworkRate":
                gflops = "" if one["gflops"] is None else f"{one['gflops']:,.0f}"
                share = "" if one["share"] is None else f"{100 * one['share']:.1f} %"
                yield (f"| {_title(subject)} | {one['setting']} | {one['network']} | "
                       f"{one['milliseconds']:.4g} | {gflops} | {share} |")  # fmt: skip
    works = [one for one in records if one["record"] == "WorkShare"]
    kinds = list(dict.fromkeys(one["kind"] for one in works))
    if not kinds:
        return
    yield from ("", "Where the device's time goes, in percent, and its milliseconds a vote:", "")
    yield f"| networks | engine | {' | '.join(kinds)} | ms |"
    yield "| --- " * (len(kinds) + 3) + "|"
    for subject, own in _by_subject(records):
        for setting in dict.fromkeys(one["setting"] for one in own if one["record"] == "WorkShare"):
            found = {one["kind"]: one for one in own
                     if one["record"] == "WorkShare" and one["setting"] == setting}  # fmt: skip
            shares = " | ".join(f"{100 * found[kind]['share']:.1f}" for kind in kinds)
            total = sum(one["milliseconds"] for one in found.values())
            yield f"| {_title(subject)} | {setting} | {shares} | {total:.4g} |"


def _training_speed(records: list[Record]) -> Iterator[str]:
    """A table of images a second."""
    yield "| training | batch | precision | compiled | images/s | goal | of the goal | 2026-11-27 |"
    yield "| --- " * 8 + "|"
    for one in (one for one in records if one["record"] == "TrainingRate"):
        goal, before = TRAINING_TARGETS.get(one["training"], (0, ""))
        rate, share = one["images_per_second"], " | "
        if goal:
            share = f"{goal:,} | {100 * rate / goal:.0f} %"
        compiled = "yes" if one["compiled"] else "no"
        yield (f"| {one['training']} | {one['batch']} | {one['precision']} | "
               f"{compiled} | {rate:,.1f} | {share} | {before} |")  # fmt: skip


def _by_subject(records: list[Record]) -> Iterator[tuple[Record, list[Record]]]:
    """Each subject with the records up to the next."""
    starts = [i for i, one in enumerate(records) if one["record"] == "Subject"]
    for start, end in pairwise([*starts, len(records)]):
        yield records[start], records[start + 1 : end]


def _title(subject: Record) -> str:
    target = TARGETS.get(subject["workload"])
    return subject["title"] if target is None else target.title


def _rows_that_differ(records: list[Record]) -> Iterator[str]:
    for subject, own in _by_subject(records):
        for one in own:
            if one["record"] == "RowBits" and not one["exact"]:
                yield f"{_title(subject)}, {one['setting']}: {one['found']}"


def _self_test(name: str, log: str, checks: Checks) -> None:
    agreeing = re.findall(r"^agrees .*$", log, re.M)
    differing = re.findall(r"^(?:DIFFERS|FAILED) .*$", log, re.M)
    checks.differing.extend(f"{name}: {_code(' '.join(line.split()))}" for line in differing)
    if agreeing:
        most = max(float(found) for found in re.findall(r" by (\S+) \(", "\n".join(agreeing)))
        checks.agreeing.append(
            f"{name}: {len(agreeing)} of {len(agreeing) + len(differing)} results as a CPU's in "
            f"float32, by {most:.1e} at most"
        )


def _tests(name: str, log: str, junit: Path, checks: Checks) -> None:
    words = dict(TESTED.findall(log))
    reasons = dict(WHY.findall(log))
    passed = sum(word == "PASSED" for word in words.values())
    if passed:
        checks.agreeing.append(f"{name}: {passed} of {len(words)} tests pass")
    for test, word in words.items():
        if word in ("FAILED", "ERROR"):
            own = test.rpartition("::")[2]
            checks.differing.append(f"{name}: {_code(own)}: {_code(reasons.get(test, word)[:300])}")
    checks.open.extend(f"{name}: skipped: {_code(reason)}" for reason in SKIPPED.findall(log))
    if not junit.exists():
        return
    for case in ElementTree.parse(junit).iter("testcase"):
        checks.figures.extend(
            f"{_code(case.get('name', ''))}: {one.get('name')} {one.get('value')}"
            for one in case.iter("property")
        )
