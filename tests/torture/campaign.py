"""`python tests/torture/campaign.py`: tortures the suite for ten minutes, and counts its faults.

Exit code 1 where there is a fault. Commands are forked from this process, which has imported
everything; a few are real ones.
"""

import argparse
import os
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
os.environ["PYTHONPATH"] = os.pathsep.join([str(REPOSITORY), str(HERE)])
os.environ |= {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", "NO_COLOR": "1"}
os.environ["PYTHONFAULTHANDLER"] = "1"
sys.path[:0] = [str(REPOSITORY), str(HERE)]

from subjects import Place  # noqa: E402
from tally import NotHere, Tally, text_of  # noqa: E402
from torture_subject import write_data, write_weights  # noqa: E402


def import_all() -> None:
    """What every command would import."""
    import diffsmooth.cli.attack
    import diffsmooth.cli.certify
    import diffsmooth.cli.lightning_cli
    import diffsmooth.cli.run
    import diffsmooth.cli.tune
    import diffsmooth.pipeline.attack_publication
    import diffsmooth.pipeline.gallery
    import diffsmooth.pipeline.publish
    import diffsmooth.pipeline.tune
    import diffsmooth.report.sweep_table  # noqa: F401


def main() -> int:
    """Reads the options, runs all, prints the table."""
    import tortures

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="for all of it, about")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", help="names of tortures")
    parser.add_argument("--keep", action="store_true", help="keep the folder")
    options = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # begun with &, it would ignore all Ctrl-C
    begun = time.monotonic()
    chosen = [one for one in tortures.ALL if not options.only or one.name in options.only]
    assert chosen, f"known are {', '.join(one.name for one in tortures.ALL)}"
    import_all()
    root = Path(tempfile.mkdtemp(prefix="torture-"))
    write_data(root / "data")
    write_weights(root / "data" / "w.pt")
    weight = sum(one.share for one in chosen)
    available = 60 * options.minutes * options.workers - (time.monotonic() - begun)
    pending = [(at, one, available * one.share / weight) for at, one in enumerate(chosen)]
    running: dict[int, int] = {}
    while pending or running:
        while pending and len(running) < options.workers:
            at, one, seconds = pending.pop(0)
            place = Place(root / one.name.replace(" ", "_"), root / "data", options.seed + at)
            place.root.mkdir()
            sys.stdout.flush()
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    tally = Tally(one.name)
                    start = time.monotonic()
                    try:
                        one.run(place, tally, start + seconds)
                    except NotHere as reason:
                        tally.skipped = str(reason)
                    except BaseException:
                        tally.wrong += 1
                        tally.note(f"the torture itself: {traceback.format_exc()}")
                    tally.seconds = time.monotonic() - start
                    tally.write(place.root / "tally.json")
                    code = 0
                finally:
                    os._exit(code)
            running[pid] = at
        pid, _ = os.wait()
        at = running.pop(pid, -1)
    tallies = [Tally.read(root / one.name.replace(" ", "_") / "tally.json") for one in chosen]
    for one in tallies:
        for note in one.notes[:5]:
            print(f"\n--- {one.name}\n{note}")
    print(text_of(tallies))
    print(f"{(time.monotonic() - begun) / 60:.1f} minutes, seed {options.seed}")
    if not options.keep:
        import shutil

        shutil.rmtree(root, ignore_errors=True)
    else:
        print(root)
    return int(any(one.faults for one in tallies))


if __name__ == "__main__":
    sys.exit(main())
