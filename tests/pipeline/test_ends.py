"""A rank's own mistake is the run's end, by its code: no batch script is to try that again."""

import time
from types import SimpleNamespace
from typing import Any

import pytest

from diffsmooth.lit.certification.ranks import LostRank
from diffsmooth.lit.certification.shared_work import SharedWork
from diffsmooth.pipeline import job
from diffsmooth.stats.errors import UserError


class Started:
    """A launcher that has started some processes, or none."""

    def __init__(self, procs: int, told: int | None = None) -> None:
        self.procs, self.ended, self._told = [object()] * procs, False, told

    def told(self) -> int | None:
        return self._told

    def end(self) -> None:
        self.ended = True


def rank(number: int, shared: SharedWork, num_nodes: int = 1) -> Any:
    trainer = SimpleNamespace(world_size=2, is_global_zero=number == 0, num_nodes=num_nodes)
    return SimpleNamespace(module=SimpleNamespace(shared=shared), trainer=trainer)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    found: list[float] = []
    monkeypatch.setattr(time, "sleep", found.append)
    return found


@pytest.mark.parametrize(("error", "code"), [(UserError("a bad file"), 2), (KeyError("bug"), 1)])
@pytest.mark.parametrize("failing", [0, 1])
def test_the_others_learn_the_code_of_the_rank_that_failed(
    failing: int, error: Exception, code: int, waits: list[float]
) -> None:
    shared = SharedWork([1, 2, 3], "localhost")  # both ranks' here
    assert shared.told() is None
    job._end_together(rank(failing, shared), Started(0), error)  # type: ignore[arg-type]
    assert waits == ([job.TELL_SECONDS] if failing == 0 else [])  # its store would end with it
    lost = LostRank("gone")
    job._end_together(rank(1 - failing, shared), Started(0), lost)  # type: ignore[arg-type]
    assert lost.told == code


def test_a_rank_that_was_killed_told_nothing(waits: list[float]) -> None:
    lost = LostRank("gone")
    job._end_together(rank(1, SharedWork([1], "localhost")), Started(0), lost)  # type: ignore[arg-type]
    assert lost.told is None


def test_of_processes_that_we_started_the_launcher_knows(waits: list[float]) -> None:
    lost, started = LostRank("gone"), Started(1, told=2)
    shared = SharedWork([1], "localhost")
    job._end_together(rank(0, shared), started, lost)  # type: ignore[arg-type]
    assert (lost.told, started.ended) == (2, True)
    job._end_together(rank(0, shared), started, UserError("x"))  # type: ignore[arg-type]
    assert waits == []  # it ends them itself
    job._end_together(rank(0, shared, num_nodes=2), started, UserError("x"))  # type: ignore[arg-type]
    assert waits == [job.TELL_SECONDS]
