"""Clocks that jump, two starts at once, files that change, loaders that die, NaN, little memory."""

import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from starts import Start
from subjects import Place, Rounds, Subject, certify, certify_words
from tally import Tally
from torture_faults import FAULTS

FIRST_ROOM = 32.0  # MiB beside what is there before the start; a tiny run takes 3 to 40
# What a run says that was begun with other files than those that are there now.
OTHER_FILES = ("belongs to a different run (", "is not the one that was certified")


def by_jumping_clocks(subject: Subject, place: Place, tally: Tally, until: float) -> None:
    """The run is none the wiser."""
    truth = subject.truth(place)
    fault = {"TORTURE_FAULT": "jumping_clock"}
    for folder in Rounds(place, until):
        start = Start(subject.words(place), folder, fault, FAULTS["jumping_clock"]).begin()
        tally.count(start.end(), 0)
        tally.struck += 1
        subject.compare(tally, folder, truth)


def by_two_starts(place: Place, tally: Tally, until: float) -> None:
    """Of two starts one does it, and the other says so or finds it done."""
    chance = random.Random(place.seed)
    subject = certify()
    truth = subject.truth(place)
    for folder in Rounds(place, until):
        first = Start(subject.words(place), folder).begin()
        time.sleep(chance.choice([0.0, chance.uniform(0, 1.0), chance.uniform(0, 0.05)]))
        second = Start(subject.words(place), folder).begin()
        ends = [tally.count(first.end(), 0, 2), tally.count(second.end(), 0, 2)]
        for one in ends:
            if one.code == 2:
                tally.struck += 1
                if "another process is at work" not in one.said:
                    tally.wrong += 1
                    tally.note(one.said)
        if all(one.code for one in ends):
            tally.wrong += 1
            tally.note(f"neither did it: {ends}")
        subject.compare(tally, folder, truth)


def by_changing_files(place: Place, tally: Tally, until: float) -> None:
    """Pictures and weights change, vanish and come back while they are read."""
    chance = random.Random(place.seed)
    steps: list[Callable[[], None]] = []
    for number, folder in enumerate(Rounds(place, until)):
        data = place.root / f"data{number}"
        shutil.copytree(place.data, data)
        here = Place(place.root, data, place.seed)
        weights = ["--classifier", str(data / "w.pt"), "--arch", "torture_subject:linear"]
        words = ["--image_size", "8", "--exif", "ignore", *weights, "--normalize", "none"]
        subject = certify_pictures(words)
        truth = subject.truth(here)
        victims = [*(data / "pictures").rglob("*.png"), data / "w.pt"]
        start = Start(subject.words(here), folder).begin()
        time.sleep(chance.uniform(0, 1.5))
        for victim in chance.sample(victims, 5):
            kept = victim.read_bytes()
            damage = chance.choice(["gone", "short", "other"])
            if damage == "gone":
                victim.unlink()
            else:
                victim.write_bytes(kept[: len(kept) // 2] if damage == "short" else kept[::-1])
            steps.append(lambda victim=victim, kept=kept: (victim.write_bytes(kept), None)[1])
        ended = tally.count(start.end(), 0, 1, 2)  # 1: images failed, and are named
        tally.struck += ended.code != 0
        for step in steps:
            step()
        steps.clear()
        ended = tally.count(Start(subject.words(here), folder).begin().end(), 0, 2)
        if any(said in ended.said for said in OTHER_FILES):  # and so it should say
            anew = [*subject.words(here), "--overwrite"]
            tally.count(Start(anew, folder).begin().end(), 0)
        subject.compare(tally, folder, truth)


def certify_pictures(more: list[str]) -> Subject:
    """`certify` of the folder of pictures, by a file of weights."""

    def words(place: Place) -> list[str]:
        return certify_words(place, *more, data="pictures")

    one = certify()
    return Subject(words, one.found, lambda place, _: words(place))


def by_dying_loaders(subject: Subject, place: Place, tally: Tally, until: float) -> None:
    """A training whose loaders are killed says so in a line, and goes on."""
    truth = subject.truth(place)
    fault = {"TORTURE_FAULT": "loader_dies"}
    more = ["--data.workers", "1"]

    def begin(words: list[str], folder: Path) -> Start:
        return Start([*words, *more], folder, fault, FAULTS["loader_dies"]).begin()

    for folder in Rounds(place, until):
        _three_times(begin, subject, place, folder, tally)
        subject.compare(tally, folder, truth)


def by_nan(place: Place, tally: Tally, until: float) -> None:
    """A network that gives NaN for some images: those fail, and no other."""
    subject = certify()
    truth = subject.truth(place)
    with np.load(place.data / "test.npz") as data:
        bright = data["images"][:, :4, :4].mean(axis=(1, 2)) > 0.8 * 255
    for folder in Rounds(place, until):
        words = subject.words(place)
        words[words.index("torture_subject:linear")] = "torture_subject:NotANumber"
        ended = tally.count(Start(words, folder).begin().end(), 1, 2)
        tally.struck += 1
        if ended.code == 2:
            continue  # refused before the first vote
        for index, row in subject.found(folder)["o.txt"]:
            failed = row["predict"] == "-1" and float(row["radius"]) == 0  # type: ignore[index]
            if bright[index] and not failed:
                tally.wrong += 1
                tally.note(f"NaN voted: {row}")
            elif not bright[index] and not failed and row != truth["o.txt"][index]:
                tally.wrong += 1
                tally.note(f"{row} is not {truth['o.txt'][index]}")


def by_little_memory(subject: Subject, place: Place, tally: Tally, until: float) -> None:
    """Less memory than it takes: one line, and with enough the same command goes on.

    The room shrinks after a start that it sufficed, and grows after one that it did not, so that
    half of the starts are struck whatever they take.
    """
    chance = random.Random(place.seed)
    truth = subject.truth(place)
    room, struck = FIRST_ROOM, 0

    def begin(words: list[str], folder: Path) -> Start:
        nonlocal room, struck
        room *= 2 if tally.struck > struck else 0.5
        struck = tally.struck
        memory = str(int(room * chance.uniform(0.5, 1.5) * 2**20))
        fault = {"TORTURE_FAULT": "little_memory", "TORTURE_MEMORY": memory}
        return Start(words, folder, fault, FAULTS["little_memory"]).begin()

    for folder in Rounds(place, until):
        _three_times(begin, subject, place, folder, tally, may_abort=True)
        subject.compare(tally, folder, truth)


def _three_times(
    begin: Callable[[list[str], Path], Start],
    subject: Subject,
    place: Place,
    folder: Path,
    tally: Tally,
    may_abort: bool = False,
) -> None:
    """Starts that are struck and go on, until one is through; after three, one that is not."""
    words = subject.words(place)
    for _ in range(3):
        ended = begin(words, folder).end()
        if may_abort and ended.aborted:
            tally.starts += 1
            tally.aborts += 1
        else:
            tally.count(ended, 0, 1, 2, 75)
        tally.struck += ended.code != 0
        words = subject.again(place, folder)
        if ended.code == 0:
            return
    tally.count(Start(words, folder).begin().end(), 0)
