"""A plan of another package: certified by, stored, read and computed again."""

import importlib
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from diffsmooth.pipeline.python_calls import certify
from diffsmooth.runs.line import from_line, to_line
from diffsmooth.stats import (
    Certificate,
    FixedSampleSize,
    GroupSequential,
    ImageRecord,
    Look,
    MajorityVote,
    Plan,
    Results,
    lower_confidence_bound,
    reanalyse,
)
from diffsmooth.stats.certificate import Votes
from diffsmooth.stats.errors import UserError
from diffsmooth.stats.plan_making import check_plan, make_plan
from diffsmooth.stats.plan_words import PLANS, kind_of, plan_of_text
from diffsmooth.stats.reanalysis import recompute

TWO_LOOKS = '''
"""Bonferroni's two looks, both of which are taken."""

from dataclasses import dataclass, field, replace
from typing import ClassVar

from diffsmooth.stats import Plan, PlanRun


@dataclass(frozen=True)
class TwoLooks(Plan):
    name: ClassVar[str] = f"{__name__}:TwoLooks"

    @property
    def looks(self):
        return (self.n // 2, self.n)

    @property
    def levels(self):
        return (self.alpha / 2, self.alpha / 2)


@dataclass(frozen=True)
class Impostor(TwoLooks):
    name: ClassVar[str] = "fixed"


@dataclass(frozen=True)
class NoChoice(TwoLooks):
    n0: int = field(default=10, init=False, repr=False)


@dataclass(frozen=True)
class Nameless(Plan):
    pass


@dataclass(frozen=True)
class Unregistered(TwoLooks):
    name: ClassVar[str] = "mine"


@dataclass(frozen=True)
class SameName(TwoLooks):
    pass


@dataclass(frozen=True)
class MovesItsLook(TwoLooks):
    name: ClassVar[str] = f"{__name__}:MovesItsLook"
    first: int = 10

    @property
    def looks(self):
        return (self.first, self.n)


class StopsAtOnce(PlanRun):
    @property
    def wanted(self):
        return 0 if self._looks else super().wanted


@dataclass(frozen=True)
class Silent(TwoLooks):
    name: ClassVar[str] = f"{__name__}:Silent"

    def start(self, sigma, num_classes, label=None):
        return StopsAtOnce(self, sigma, num_classes)


@dataclass(frozen=True)
class Told(Silent):
    name: ClassVar[str] = f"{__name__}:Told"

    def nothing(self, sigma):
        return replace(super().nothing(sigma), grid=(0.0,))


NO_PLAN = 3
'''
WORD = "their_plans:TwoLooks"


@pytest.fixture(autouse=True)
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "their_plans.py").write_text(TWO_LOOKS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "their_plans", raising=False)


def play(plan: Plan, share: float) -> Certificate:
    rng, run = np.random.default_rng(0), plan.start(0.5, 3)
    while run.wanted:
        run.update(rng.multinomial(run.wanted, [(1 - share) / 2, share, (1 - share) / 2]))
    return run.certificate


def test_it_certifies_by_the_better_of_its_bounds() -> None:
    plan = make_plan(WORD, n0=10, n=400, alpha=0.01)
    found = play(plan, 0.9)
    assert [look.n for look in found.looks] == [200, 400]
    bounds = [lower_confidence_bound(look.successes, look.n, 0.005) for look in found.looks]
    assert found.p_lower == max(bounds) > 0.5
    assert (found.plan, found.status, found.votes) == (WORD, "certified", 410)
    assert play(plan, 0.3).status == "abstained"


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95, 1.0])
def test_what_it_wrote_is_read_and_computed_again(share: float) -> None:
    plan = make_plan(WORD, n0=10, n=400, alpha=0.01)
    found = play(plan, share)
    assert str(plan) == f"{WORD}(n0=10, n=400, alpha=0.01)"
    assert plan_of_text(str(plan)) == plan
    record = ImageRecord(3, 1, 0.5, found)
    assert from_line(to_line(record)) == record
    assert recompute(plan.nothing(0.5)) == plan.nothing(0.5)
    assert reanalyse(found, 0.2).p_lower == play(replace(plan, alpha=0.2), share).p_lower
    assert Results.from_records([record]).certifies
    with pytest.raises(ValueError, match="radius is 2"):
        recompute(replace(found, radius=2.0))
    with pytest.raises(ValueError, match="looks at other votes"):
        recompute(replace(found, looks=found.looks[1:]))


def test_a_stop_that_is_not_told_is_refused() -> None:
    plan = make_plan(WORD, n0=10, n=400, alpha=0.01)
    early = plan.conclude(0.5, Votes(((0, 10),), ((0, 200),), (Look(200, 200),)))
    assert early.status == "certified"
    with pytest.raises(ValueError, match="stopped early, and does not say for which radii"):
        recompute(early)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("Nameless", {}, "their_plans:Nameless has no name: give it name = 'their_plans:Nameless'"),
        ("Unregistered", {}, "plan 'mine' is not known"),
        ("SameName", {}, "its name or its text are those of another plan; it is called "),
        ("MovesItsLook", {"first": 12}, "could not be read again: looks at other votes"),
        ("Silent", {}, "could not be read again: .* does not say for which radii"),
    ],
)
def test_a_plan_that_could_not_be_read_again_is_refused_before_it_votes(
    name: str, options: dict[str, int], message: str
) -> None:
    kind = getattr(importlib.import_module("their_plans"), name)
    plan = kind(n0=10, n=400, alpha=0.01, **options)
    with pytest.raises(UserError, match=message):
        check_plan(plan)
    with pytest.raises(UserError, match=message):
        certify(None, None, plan=plan)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "plan",
    [
        FixedSampleSize(), FixedSampleSize(1, 1, 0.9), GroupSequential(),
        GroupSequential(n=1), GroupSequential(tolerance=0.05), GroupSequential(label_aware=True),
        GroupSequential(3, 5000, 0.05, radii=(9.0,), first_look=7),
    ],
)  # fmt: skip
def test_plans_that_can_be_read_again_are_taken(plan: Plan) -> None:
    check_plan(plan)
    their_plans = importlib.import_module("their_plans")
    for theirs in (their_plans.TwoLooks(), their_plans.MovesItsLook(), their_plans.Told()):
        check_plan(theirs)


def test_forecasts_need_to_know_when_it_stops() -> None:
    with pytest.raises(UserError, match="does not tell forecasts when it stops"):
        make_plan(WORD).stopping_rule(0.5, 1)


@pytest.mark.parametrize(
    ("word", "options", "message"),
    [
        ("lucky", {}, "plan must be fixed or group_sequential or PACKAGE.MODULE:NAME, got 'lucky'"),
        ("majority", {}, "plan must be fixed or group_sequential or"),
        ("their_plans:NO_PLAN", {}, "'their_plans:NO_PLAN' is no diffsmooth.stats.Plan"),
        ("their_plans:Absent", {}, "their_plans has no Absent"),
        ("no_such_plans:P", {}, "there is no module no_such_plans"),
        ("their_plans:Impostor", {}, "its name or its text are those of another plan"),
        (WORD, {"radii": (0.5,)}, "radii is of plan group_sequential, not of their_plans:TwoLooks"),
        ("fixed", {"tolerance": 0.1}, "tolerance is of plan group_sequential, not of fixed"),
        ("their_plans:NoChoice", {"n0": 5}, "NoChoice must take n0, n and alpha when it is made"),
        (WORD, {"n": 0}, "n must be at least 1, got 0"),
    ],
)
def test_what_is_no_plan_is_refused(word: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_plan(word, **options)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nobodys.plans:P", "of another package, and a file does not choose what is run"),
        ("this:x", "import this first"),
        ("..plans:P", "is not known"), ("a:b:c", "is not known"), ("os path:x", "is not known"),
        ("", "is not known"), (":", "is not known"), ("Fixed", "is not known"),
        ("math:pi", "is no diffsmooth.stats.Plan"),
    ],
)  # fmt: skip
def test_stored_names_of_no_plan_are_refused(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        kind_of(name)
    with pytest.raises(UserError, match=message):
        recompute(replace(FixedSampleSize().nothing(0.5), plan=name))


def test_a_stored_name_does_not_add_to_the_folders_that_code_comes_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A journal that somebody sent must not run the module that lies beside it."""
    folder = tmp_path / "sent"
    folder.mkdir()
    (folder / "sent_plans.py").write_text("raise AssertionError('was run')")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", ".")])
    with pytest.raises(UserError, match="import sent_plans first"):
        kind_of("sent_plans:P")


@pytest.mark.parametrize("kind", [FixedSampleSize, GroupSequential, MajorityVote])
def test_our_plans_are_found_by_name_and_by_class(kind: type[Plan]) -> None:
    assert kind_of(kind.name) is kind_of(kind.__name__) is kind
    assert (kind.name in PLANS) == kind.certifies
    assert str(kind()) == repr(kind())  # as manifests have it


@pytest.mark.parametrize(
    ("looks", "levels", "message"),
    [
        ((100,), (0.4,), "levels must add up to alpha 0.001 at most"),
        ((50, 100), (1e-3, 1e-3), "levels must add up to alpha 0.001 at most"),
        ((100,), (0.0,), "levels must add up to alpha"),
        ((50, 100), (6e-4, 4e-4), "the last look's level must be the highest"),
        ((50, 90), (1e-4, 9e-4), "looks must rise to n 100, each with its level"),
        ((100, 100), (1e-4, 9e-4), "looks must rise to n 100"),
        ((50, 100), (1e-3,), "looks must rise to n 100, each with its level"),
    ],
)
def test_a_plan_whose_levels_are_more_than_alpha_is_refused(
    looks: tuple[int, ...],
    levels: tuple[float, ...],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = importlib.import_module("their_plans")
    monkeypatch.setattr(module.TwoLooks, "looks", looks)
    monkeypatch.setattr(module.TwoLooks, "levels", levels)
    with pytest.raises(UserError, match=message):
        make_plan(WORD, n0=10, n=100)
    with pytest.raises(UserError, match=message):
        certify(None, None, plan=module.TwoLooks(10, 100))  # type: ignore[arg-type]
