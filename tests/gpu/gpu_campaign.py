"""`python tests/gpu/gpu_campaign.py`: settles in five minutes what only a GPU can settle.

Self-tests and the tests marked gpu side by side, then the benchmarks, each alone; the result is one
page, page.md, that is written anew after each part. A part that fails or takes too long is said,
and the others go on. Exit code 1 where something does not agree. No network is needed, and nothing
is installed. With DIFFSMOOTH_GPU_TESTS=cpu the same parts run on a CPU at tiny size, to try it out.
"""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
sys.path[:0] = [str(REPOSITORY), str(HERE)]
ON_CPU = os.environ.get("DIFFSMOOTH_GPU_TESTS") == "cpu"
LEAST = 8.0  # seconds, without which no part begins
DIFFSMOOTH = ("-c", "from diffsmooth.cli.main import main; main()")


class Part(NamedTuple):
    """A command of its own.

    Attributes:
        name: of its files.
        words: behind Python's name.
        seconds: at most; what is left of the whole, if that is less.
    """

    name: str
    words: tuple[str, ...]
    seconds: float


class Outcome(NamedTuple):
    """How a part ended; `code` None where it was stopped, or not begun at all."""

    part: Part
    code: int | None
    seconds: float

    @property
    def how(self) -> str:
        if self.code is not None:
            return "well" if self.code == 0 else f"exit code {self.code}"
        return f"stopped after {self.seconds:.0f} s" if self.seconds else "not begun: no time left"


def self_tests() -> list[Part]:
    accelerator = "cpu" if ON_CPU else "gpu"
    settings = {"float32": ["float32"], "bf16": ["bf16"], "compiled": ["bf16", "--compile"]}
    if ON_CPU:  # many have no bf16, and compile for minutes
        del settings["bf16"], settings["compiled"]
    return [
        Part(
            f"self_test_{name}",
            (*DIFFSMOOTH, "doctor", "--self-test", "--accelerator", accelerator, "--precision",
             *words),
            1500 if ON_CPU else 110,
        )
        for name, words in settings.items()
    ]  # fmt: skip


def tests(folder: Path) -> list[Part]:
    """A process a file: they are bound by starting up and compiling."""
    files = [path.relative_to(REPOSITORY) for path in sorted(HERE.glob("test_*_on_gpu.py"))]
    if not ON_CPU:
        files.append(Path("tests/models/smoothing/test_integer_noise.py"))
        files.append(Path("tests/models/kernels/test_group_norm_gpu.py"))
    options = ("-m", "pytest", "-v", "-m", "gpu", "-p", "no:cacheprovider", "-W", "default",
               "--color=no")  # fmt: skip
    return [
        Part(
            path.stem,
            (*options, f"--junitxml={folder / path.stem}.xml", str(path)),
            1500 if ON_CPU else 110,
        )
        for path in files
    ]


def bench(folder: Path, name: str, seconds: float, *words: str) -> Part:
    sizes = ("--seconds", "0.2", "--repetitions", "1") if ON_CPU else ("--repetitions", "2")
    accelerator = "cpu" if ON_CPU else "gpu"
    return Part(
        f"bench_{name}",
        (*DIFFSMOOTH, "bench", "--sections", "speed", "--accelerator", accelerator, "--profile",
         "--json", str(folder / f"bench_{name}.json"), "--workloads", name, *words, *sizes),
        seconds,
    )  # fmt: skip


def trainings(folder: Path) -> Part:
    """Images a second of the project's trainings."""
    how = ("--accelerator", "cpu", "--settings", "float32", "--seconds", "0.2")
    if not ON_CPU:
        how = ("--accelerator", "gpu", "--settings", "bf16", "--seconds", "3")
    words = ("bench", "--sections", "training", *how, "--json", str(folder / "trainings.json"))
    return Part("trainings", (*DIFFSMOOTH, *words), 1500 if ON_CPU else 100)


def benches(folder: Path) -> list[Part]:
    """In the order of their worth; the last compiles for as long as time is left."""
    if ON_CPU:
        return [
            bench(folder, "cohen", 1500, "--settings", "float32", "--batch", "8"),
            trainings(folder),
        ]
    engine = ("--settings", "bf16", "compiled", "--batch", "auto", "--seconds", "1.5")
    return [
        bench(folder, "full", 90, *engine, "--loop_batch", "50", "1000"),
        bench(folder, "resnet110", 60, *engine, "--loop_batch", "50", "1000"),
        trainings(folder),
        bench(folder, "imagenet", 600, *engine, "--loop_batch", "32"),
    ]


def warming() -> list[Part]:
    """Compile beside the tests what benchmarks will need: they find the code on disk."""
    if ON_CPU:
        return []
    words = ("--sections", "speed", "--accelerator", "gpu", "--settings", "compiled", "--batch",
             "auto", "--loop_batch", "50", "--seconds", "0.01", "--repetitions", "1")  # fmt: skip
    return [
        Part(f"compile_{name}", (*DIFFSMOOTH, "bench", *words, "--workloads", name), 110)
        for name in ("full", "resnet110")
    ]


def run(parts: Sequence[Part], folder: Path, until: float, tell: Callable[[Outcome], None]) -> None:
    """Runs parts side by side, each with a log of its own, and tells how each ended.

    Args:
        parts: what to run.
        folder: of the logs.
        until: of the monotonic clock: what runs on then is killed, with all that it has started.
        tell: is told as soon as one has ended.
    """
    running: dict[subprocess.Popen[bytes], tuple[Part, float]] = {}
    for part in parts:
        if until - time.monotonic() < LEAST:
            tell(Outcome(part, None, 0.0))
            continue
        with open(folder / f"{part.name}.log", "wb") as log:
            process = subprocess.Popen(
                [sys.executable, *part.words], cwd=REPOSITORY, stdin=subprocess.DEVNULL,
                stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        running[process] = part, time.monotonic()
    try:
        while running:
            for process, (part, begun) in list(running.items()):
                now, code = time.monotonic(), process.poll()
                if code is None and now < min(until, begun + part.seconds):
                    continue
                del running[process]
                _end(process)
                tell(Outcome(part, code, now - begun))
            time.sleep(0.1)
    finally:
        for process in running:
            _end(process)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Kills it, if it is there, and what it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def main() -> int:
    """Reads the options, runs all, and prints the page."""
    from gpu_page import Page, page_of

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=REPOSITORY / "logs" / "gpu")
    parser.add_argument("--minutes", type=float, default=4.8, help="for all of it")
    parser.add_argument("--only", nargs="*", help="names of parts")
    options = parser.parse_args()
    begun = time.monotonic()
    end = begun + 60 * options.minutes
    folder = options.out.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    path = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    os.environ |= {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1", "NO_COLOR": "1"}
    if ON_CPU:
        os.environ["OMP_NUM_THREADS"] = "1"  # parts run side by side
    outcomes: list[Outcome] = []

    def tell(outcome: Outcome) -> None:
        outcomes.append(outcome)
        print(f"{time.monotonic() - begun:6.1f} s  {outcome.part.name}: {outcome.how}", flush=True)
        try:
            write_page()
        except Exception:  # of half a file, say: no reason to measure no more
            traceback.print_exc()

    def write_page() -> Page:
        page = page_of(outcomes, folder, time.monotonic() - begun)
        (folder / "page.md").write_text(page.text)
        return page

    def chosen(parts: list[Part]) -> list[Part]:
        return [part for part in parts if not options.only or part.name in options.only]

    with tempfile.TemporaryDirectory(prefix="inductor-") as cache:
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", cache)
        together = [*self_tests(), *tests(folder), *warming()]
        for part in (*together, *benches(folder)):  # of a campaign before this one
            for ending in (".json", ".xml", ".log"):
                (folder / f"{part.name}{ending}").unlink(missing_ok=True)
        run(chosen(together), folder, end, tell)
        for part in chosen(benches(folder)):
            run([part], folder, end, tell)
    page = write_page()
    print(f"\n{page.text}\n{folder / 'page.md'}")
    return int(not page.agrees)


if __name__ == "__main__":
    sys.exit(main())
