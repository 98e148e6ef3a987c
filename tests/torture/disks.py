"""Full and read-only disks: a small file system in memory, filled, shut, and opened again."""

import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from starts import Start
from subjects import Place, Rounds, Subject
from tally import NotHere, Tally

SIZE = 2 * 2**20  # bytes
PAGE = 4096


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """Mounts one on a folder."""
    words = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "torture", str(folder)]
    try:
        done = subprocess.run(words, capture_output=True, text=True)
    except OSError as error:
        raise NotHere(f"no mount ({error.strerror})") from error
    if done.returncode:
        raise NotHere("mounting is not permitted")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def on_full_disks(subject: Subject, place: Place, tally: Tally, until: float) -> None:
    """Runs that find so many free pages and no more; then there is room, and they go on."""
    chance = random.Random(place.seed)
    truth = subject.truth(place)
    needed = sum(path.stat().st_size // PAGE + 1 for path in (place.root / "truth").rglob("*"))
    for folder in Rounds(place, until):
        with small_disk(folder):
            words = subject.words(place)
            for free in sorted(chance.sample(range(needed + 8), 3)):
                fill(folder, free)
                # What it says goes elsewhere; so do temporary files.
                ended = tally.count(_start(words, place, folder).end(), 0, 2)
                tally.struck += ended.code != 0
                (folder / "filler").unlink()
                words = subject.again(place, folder)
                if ended.code == 0:
                    break
            tally.count(_start(words, place, folder).end(), 0)
            subject.compare(tally, folder, truth)


def on_read_only_disks(subject: Subject, place: Place, tally: Tally, until: float) -> None:
    """Runs whose disk is shut before they begin, or while they are at work."""
    chance = random.Random(place.seed)
    begun = time.monotonic()
    truth = subject.truth(place)
    usual = time.monotonic() - begun
    for folder in Rounds(place, until):
        with small_disk(folder):
            words = subject.words(place)
            for early in (True, False):
                start = None if early else _start(words, place, folder)
                if start is not None:
                    time.sleep(chance.uniform(0, usual))
                _shut(folder, True)
                start = start or _start(words, place, folder)
                ended = tally.count(start.end(), 0, 2)
                tally.struck += ended.code != 0
                _shut(folder, False)
                words = subject.again(place, folder)
            tally.count(_start(words, place, folder).end(), 0)
            subject.compare(tally, folder, truth)


def fill(folder: Path, free: int) -> None:
    """Leaves so many free pages."""
    room = shutil.disk_usage(folder).free - free * PAGE
    if room > 0:
        (folder / "filler").write_bytes(bytes(room))
    else:
        (folder / "filler").touch()


def _shut(folder: Path, shut: bool) -> None:
    """Makes it read-only; tried again while a file is open for writing."""
    words = ["mount", "-o", f"remount,{'ro' if shut else 'rw'}", str(folder)]
    until = time.monotonic() + 20
    while subprocess.run(words, capture_output=True).returncode and time.monotonic() < until:
        time.sleep(0.001)


def _start(words: list[str], place: Place, folder: Path) -> Start:
    log = place.root / "said"
    log.mkdir(exist_ok=True)
    return Start(words, folder, {"TMPDIR": str(log), "MPLCONFIGDIR": str(log)}, said=log).begin()
