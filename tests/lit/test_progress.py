import fcntl
import io
import os
import pty
import struct
import sys
import termios
from types import SimpleNamespace
from typing import Any

import pytest
from test_journal import make_record

from diffsmooth.lit.certification import progress
from diffsmooth.lit.certification.progress import Progress
from diffsmooth.lit.certification.shared_work import SharedWork, Totals
from diffsmooth.stats import FixedSampleSize, GroupSequential, ImageRecord, Plan


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def started(plan: Plan, before: list[ImageRecord], total: int, labelled: bool = True) -> Progress:
    images = SimpleNamespace(is_labelled=labelled)
    module: Any = SimpleNamespace(plan=plan, records=before, selection=range(total), images=images)
    trainer: Any = SimpleNamespace(is_global_zero=True)
    progress = Progress()
    progress.on_predict_start(trainer, module)
    return progress


def test_the_line_tells_the_whole_job(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    """Two images were done before, one of them wrongly; ten more are left of twelve."""
    before = [make_record(0), make_record(1, successes=1)]
    bar = started(FixedSampleSize(n0=10, n=90), before, total=12)
    bar.show(Totals())
    assert capsys.readouterr().err == ""  # nothing to say yet
    clock.now += 10
    bar.show(Totals(images=2, correct=1, radius=0.5, votes=250, finished_votes=200))
    line = capsys.readouterr().err
    # 25 votes/s; eight images are left, half of one is done: 750 votes.
    assert line.startswith("images 4/12: 25 votes/s; certified 0.500; ACR ")
    assert line.endswith("; ETA 00:30\n")


def test_the_line_does_not_overstate(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    bar = started(FixedSampleSize(n0=10, n=90), [], total=3000)
    clock.now += 10
    bar.show(Totals(images=2500, correct=2499, radius=1999.0, votes=250, finished_votes=250))
    assert "certified 0.999; ACR 0.799" in capsys.readouterr().err


def test_the_bar_of_a_large_run_fits_into_80_columns(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    with open(terminal, "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        bar = started(FixedSampleSize(n0=100, n=100_000), [], total=50_000)
        clock.now += 3_600
        votes = 39_340_800
        bar.show(Totals(images=393, correct=393, radius=341.2, votes=votes, finished_votes=votes))
        stream.flush()
        text = b""
        while b"ETA" not in text:  # a terminal gives what it has by and by
            text += os.read(shown, 10_000)
        line = text.decode().rpartition("\r")[2]
    os.close(shown)
    assert line.startswith("images 393/50000 |")
    assert line.endswith("| 10,928 votes/s; certified 1.000; ACR 0.868; ETA 126:13:35")
    assert len(line) < 80


def test_images_without_labels_have_no_accuracy(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    bar = started(FixedSampleSize(n0=10, n=90), [], total=30, labelled=False)
    clock.now += 10
    bar.show(Totals(images=20, votes=2000, finished_votes=2000))
    assert capsys.readouterr().err == "images 20/30: 200 votes/s; ETA 00:05\n"


def test_a_sequential_plans_time_left_goes_by_the_images_that_are_done(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    bar = started(GroupSequential(n=100_000), [], total=30)
    clock.now += 10
    bar.show(Totals(images=20, correct=20, radius=1.0, votes=4000, finished_votes=4000))
    assert "ETA 00:05" in capsys.readouterr().err  # 10 images of 200 votes at 400 votes/s


def test_each_image_has_one_turn_and_all_add_to_the_totals() -> None:
    work = SharedWork([3, 5, 8], "localhost")
    assert len(work) == 3
    one, another = iter(work), iter(work)
    assert [next(one), next(another), *one, *another] == [3, 5, 8]
    work.report(70, [make_record(3), make_record(5, successes=1)])
    work.report(5, [])
    work.flush()
    totals = work.totals()
    record = make_record(3)
    assert (totals.images, totals.correct, totals.votes, totals.finished_votes) == (2, 1, 75, 22)
    assert totals.radius == pytest.approx(record.certificate.radius, abs=1e-6)
    assert not work.is_stopped
    work.stop()
    work.flush()
    assert work.is_stopped


def test_what_breaks_off_leaves_the_bar_as_it_is_drawn(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", terminal)
    bar = started(FixedSampleSize(n0=10, n=90), [], total=12)
    clock.now += 10
    bar.show(Totals(images=2, correct=1, radius=0.5, votes=250, finished_votes=200))
    drawn = terminal.getvalue()
    assert "images 2/12" in drawn
    bar.on_exception()
    assert bar._bar is not None
    bar._bar.close()  # as tqdm does when the process ends
    assert terminal.getvalue() == drawn
