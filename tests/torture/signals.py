"""Signals at random moments, until the command is through; then its files against the truth."""

import os
import random
import signal
import time
from pathlib import Path

from starts import Start, Whom
from subjects import Place, Rounds, Subject
from tally import Tally

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# Ends that a signal may have: its own, ours, and the end that it came too late for.
CODES = (0, 75, 130, -signal.SIGKILL, -signal.SIGHUP, -signal.SIGTERM, -signal.SIGINT)
MOST_STRIKES = 6  # on one run; then it is let through


REAL = 0.05  # of the starts, by new interpreters: signals find those while they import, too


def under_signals(subject: Subject, place: Place, tally: Tally, until: float) -> None:
    """Rounds of a run, each struck again and again, until the time is up; at least one."""
    chance = random.Random(place.seed)
    begun = time.monotonic()
    truth = subject.truth(place)
    usual = time.monotonic() - begun
    for folder in Rounds(place, until):
        words = subject.words(place)
        for _ in range(MOST_STRIKES):
            new = chance.random() < REAL
            start = Start(words, folder, _elsewhere(place), real=new).begin()
            length = usual + 8 * new
            kind = chance.choice(SIGNALS)
            # As a terminal or a batch system does: some reach the first process, some all.
            whom: Whom = chance.choice(["first", "first", "all", "child"])
            start.signal_after(chance.uniform(0, length), kind, whom)
            if chance.random() < 0.2:  # and once more, at once
                start.kill(chance.choice(SIGNALS), whom)
            ended = tally.count(start.end(), *CODES)
            tally.struck += ended.code != 0
            words = subject.again(place, folder)
            if ended.code == 0:
                break
        else:
            tally.count(Start(words, folder, _elsewhere(place)).begin().end(), 0)
        subject.compare(tally, folder, truth)


def _elsewhere(place: Place) -> dict[str, str]:
    """Temporary files on another file system, where there is one."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK) or place.seed % 2:
        return {}
    return {"TMPDIR": str(memory)}
