"""All tortures, with their shares of the time."""

from collections.abc import Callable
from typing import Any, NamedTuple

import disks
import mutations
import subjects
import worlds
from signals import under_signals
from subjects import Place
from tally import Tally


class Torture(NamedTuple):
    """What is done, to be said and chosen by its name.

    Attributes:
        name: in the table.
        share: of the time.
        run: does it, until a moment of `time.monotonic`, and counts.
    """

    name: str
    share: float
    run: Callable[[Place, Tally, float], None]


def _by(torture: Callable[..., None], *given: Any) -> Callable[[Place, Tally, float], None]:
    return lambda place, tally, until: torture(*given, place, tally, until)


CERTIFY, ATTACK = subjects.certify(), subjects.attack()
TUNE, TRAIN = subjects.tune(), subjects.train()
ALL = (
    Torture("signals, certify", 4, _by(under_signals, CERTIFY)),
    Torture(
        "signals, certify on two processes",
        5,
        _by(under_signals, subjects.certify("--devices", "2")),
    ),
    Torture("signals, attack", 2, _by(under_signals, ATTACK)),
    Torture("signals, tune", 2, _by(under_signals, TUNE)),
    Torture("signals, train", 3, _by(under_signals, TRAIN)),
    Torture("full disk, certify", 2, _by(disks.on_full_disks, CERTIFY)),
    Torture("full disk, attack", 1, _by(disks.on_full_disks, ATTACK)),
    Torture("full disk, tune", 1, _by(disks.on_full_disks, TUNE)),
    Torture("full disk, train", 2, _by(disks.on_full_disks, TRAIN)),
    Torture("read-only disk, certify", 1, _by(disks.on_read_only_disks, CERTIFY)),
    Torture("read-only disk, attack", 1, _by(disks.on_read_only_disks, ATTACK)),
    Torture("read-only disk, tune", 1, _by(disks.on_read_only_disks, TUNE)),
    Torture("read-only disk, train", 1, _by(disks.on_read_only_disks, TRAIN)),
    Torture("clock jumps, certify", 1, _by(worlds.by_jumping_clocks, CERTIFY)),
    Torture("clock jumps, attack", 1, _by(worlds.by_jumping_clocks, ATTACK)),
    Torture("clock jumps, tune", 1, _by(worlds.by_jumping_clocks, TUNE)),
    Torture("clock jumps, train", 1, _by(worlds.by_jumping_clocks, TRAIN)),
    Torture("two starts", 1, _by(worlds.by_two_starts)),
    Torture("files change", 2, _by(worlds.by_changing_files)),
    Torture("loaders die", 1, _by(worlds.by_dying_loaders, TRAIN)),
    Torture("NaN", 0.5, _by(worlds.by_nan)),
    Torture("little memory, certify", 1, _by(worlds.by_little_memory, CERTIFY)),
    Torture("little memory, attack", 1, _by(worlds.by_little_memory, ATTACK)),
    Torture("little memory, tune", 1, _by(worlds.by_little_memory, TUNE)),
    Torture("little memory, train", 1, _by(worlds.by_little_memory, TRAIN)),
    Torture("mutated journals", 1, _by(mutations.of_journals)),
    Torture("mutated tables", 0.5, _by(mutations.of_tables)),
    Torture("mutated manifests", 1, _by(mutations.of_manifests)),
    Torture("mutated galleries", 0.5, _by(mutations.of_galleries)),
    Torture("mutated checkpoints", 1.5, _by(mutations.of_checkpoints)),
)
