"""A rank's own mistake is the run's end, by its code: no batch script is to try that again."""

from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from diffsmooth.lit.certification.ranks import LostRank
from diffsmooth.lit.certification.shared_work import SharedWork
from diffsmooth.lit.stopping import PARENT
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


class Ends(NamedTuple):
    """What ends of this process come to.

    Attributes:
        waits: seconds that it stays after its last word.
        alone: one entry if it says at once what is wrong.
    """

    waits: list[float]
    alone: list[bool]


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> Ends:
    found = Ends([], [])
    monkeypatch.setattr(job.atexit, "register", lambda wait, seconds: found.waits.append(seconds))
    monkeypatch.setattr(job, "speak_at_once", lambda: found.alone.append(True))
    monkeypatch.delenv(PARENT, raising=False)
    return found


def end(number: int, shared: SharedWork, error: BaseException, started: Any = None) -> None:
    job._end_together(rank(number, shared), started or Started(0), error)  # type: ignore[arg-type]


@pytest.mark.parametrize(("error", "code"), [(UserError("a bad file"), 2), (KeyError("bug"), 1)])
@pytest.mark.parametrize("failing", [0, 1])
def test_the_others_learn_the_code_of_the_rank_that_failed(
    failing: int, error: Exception, code: int, ends: Ends
) -> None:
    shared = SharedWork([], "localhost")  # both ranks' here, with nothing left to do
    shared.flush()
    end(failing, shared, error)
    assert ends.alone == [True]
    with pytest.raises(LostRank) as lost:
        shared.flush()  # as the others do while they vote, and while they wait
    assert lost.value.told == code
    end(1 - failing, shared, lost.value)
    assert ends.waits == [job.TELL_SECONDS]  # rank zero's store would end with it
    assert ends.alone == [True]


def test_of_ranks_that_fail_alike_one_says_so(ends: Ends) -> None:
    shared = SharedWork([1], "localhost")
    end(1, shared, UserError("no memory"))
    with pytest.raises(LostRank) as lost:
        end(0, shared, UserError("no memory"))
    assert lost.value.told == 2
    assert ends == Ends([job.TELL_SECONDS], [True])


def test_a_rank_that_was_killed_told_nothing(ends: Ends) -> None:
    lost = LostRank("gone")
    end(1, SharedWork([1], "localhost"), lost)
    assert lost.told is None
    assert ends == Ends([], [])


def test_of_processes_that_we_started_the_launcher_knows(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PARENT, "1")
    shared, started, lost = SharedWork([1], "localhost"), Started(1, told=2), LostRank("gone")
    end(0, shared, lost, started)
    assert (lost.told, started.ended) == (2, True)
    end(0, shared, UserError("x"), started)
    end(1, shared, UserError("x"))  # it waits for its turn to speak, and is heard
    shared.flush()
    assert ends == Ends([], [])
