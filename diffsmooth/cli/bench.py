"""`diffsmooth bench`: votes a second of the published loop and of the engine on this machine."""

import multiprocessing
import queue
import re
import resource
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffsmooth.cli.errors import OneLineParser, user_errors
from diffsmooth.lit.data import load_images
from diffsmooth.models.smoothing.engine import Task, VoteEngine
from diffsmooth.models.smoothing.noise import NoiseKey, NumpyNoise, Votes, noise_source
from diffsmooth.models.smoothing.precision import (
    Numerics,
    current_numerics,
    numerics_of,
    resolve_precision,
)
from diffsmooth.models.smoothing.vote_function import VoteFunction
from diffsmooth.pipeline.compiling import can_compile
from diffsmooth.pipeline.device import pick_device
from diffsmooth.pipeline.option_checks import check_most
from diffsmooth.pipeline.published_loop import PublishedLoop, published_numerics
from diffsmooth.pipeline.workloads import SIGMA, WORKLOADS, Setting, Workload
from diffsmooth.stats import GroupSequential, MajorityVote, Plan
from diffsmooth.stats.errors import UserError, option_values
from diffsmooth.stats.printed import rounded_down

SETTINGS = {
    setting.name: setting
    for setting in (
        Setting("plain", "float32", prepared=False),
        Setting("float32", "float32"),
        Setting("bf16", "bf16"),
        Setting("compiled", "bf16", compiled=True),
    )
}
SECTIONS = ("speed", "memory", "processes", "sequential")
MOST_SECONDS = 1e5
MATRIX_SIDE = 2048
KEY = NoiseKey(0, "certify", "bench", "test", 0)
AGREEMENT_IMAGES, AGREEMENT_VOTES = 40, 50


def main(args: list[str] | None = None, prog: str = "diffsmooth bench") -> None:
    """Runs the command on `args`, by default the process's."""
    parser = OneLineParser(prog=prog, description=__doc__)
    add = parser.add_argument
    add("--sections", type=str, nargs="+", default=list(SECTIONS),
        help=f"what to measure, of {', '.join(SECTIONS)}")  # fmt: skip
    add("--workloads", type=str, nargs="+", default=list(WORKLOADS),
        help="; ".join(f"{w.name}: {w.title}" for w in WORKLOADS.values()))  # fmt: skip
    add("--settings", type=str, nargs="+", default=None,
        help="of the engine: plain (float32, networks as loaded), float32 and bf16 (prepared for "
        "many votes), compiled (bf16); by default bf16 where the hardware computes in it, and "
        "compiled on GPUs only")  # fmt: skip
    add("--accelerator", type=str, default="auto", help="auto, cpu or gpu")
    add("--noise", type=str, default="numpy", help="source of the votes' noise: numpy or device")
    add("--batch", type=int, default=50, help="votes a forward pass")
    add("--seconds", type=float, default=5.0, help="of a repetition of the published loop, about")
    add("--repetitions", type=int, default=5, help="the median is printed")
    add("--images", type=int, default=20, help="of the sequential section")
    add("--n", "--N", dest="n", type=int, default=100_000,
        help="votes of the memory and sequential sections")  # fmt: skip
    namespace = parser.parse_args(args)
    with user_errors(prog):
        for name in ("batch", "repetitions", "images", "n"):
            if getattr(namespace, name) < 1:
                raise UserError(f"{name} must be at least 1, got {getattr(namespace, name)}")
            check_most(name, getattr(namespace, name))
        if not 0 < namespace.seconds <= MOST_SECONDS:
            raise UserError(
                f"seconds must be > 0 and at most {MOST_SECONDS:g}, got {namespace.seconds}"
            )
        device = pick_device(namespace.accelerator)
        if namespace.settings is None:
            namespace.settings = ["plain", "float32"]
            if _fastest(device) == "bf16":
                namespace.settings.append("bf16")
            if device.type == "cuda":
                namespace.settings.append("compiled")
        for name, known in (
            ("sections", SECTIONS), ("workloads", WORKLOADS), ("settings", SETTINGS)
        ):  # fmt: skip
            for word in getattr(namespace, name):
                if word not in known:
                    raise UserError(f"{name} must be of {', '.join(known)}, got {word!r}")
        with option_values():
            noise_source(namespace.noise, device)
        print(f"{_machine(device)}, torch {torch.__version__}, {torch.get_num_threads()} threads")
        _print_matrix_peaks(namespace.settings, device)
        if "speed" in namespace.sections:
            for name in namespace.workloads:
                _print_speed(WORKLOADS[name], namespace, device)
        if "memory" in namespace.sections:
            _print_memory(namespace, device)
        if "processes" in namespace.sections and device.type == "cpu":
            _print_processes(namespace)
        if "sequential" in namespace.sections:
            _print_sequential(namespace, device)


def _fastest(device: torch.device) -> str:
    """The setting that `certify` takes of its own accord, but for compiling."""
    return resolve_precision("auto", device.type)


def _machine(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu ({torch.backends.cpu.get_cpu_capability()})"


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def _print_matrix_peaks(settings: list[str], device: torch.device) -> None:
    # Where bf16 is emulated, a product takes seconds: only where something is measured in it.
    wanted = {SETTINGS[name].precision for name in settings}
    dtypes = {"float32": torch.float32, "bf16": torch.bfloat16}
    for dtype in (dtype for precision, dtype in dtypes.items() if precision in wanted):
        a = torch.randn(MATRIX_SIDE, MATRIX_SIDE, device=device).to(dtype)
        best = min(_seconds(lambda a=a: a @ a, device) for _ in range(10))  # type: ignore[misc]
        print(f"matrix product, {dtype}: {2 * MATRIX_SIDE**3 / best / 1e9:,.0f} GFLOP/s")


def _run(model: VoteFunction, plan: Plan, image: Tensor, noise: str = "numpy") -> None:
    with VoteEngine(model, plan, noise_source(noise, model.device)) as engine:  # type: ignore[arg-type]
        engine.submit(Task(image, KEY))
        (finished,) = engine.drain()
    if finished.error is not None:
        raise finished.error


@torch.inference_mode()
def _run_networks(model: VoteFunction, noisy: Tensor, batches: int) -> None:
    for _ in range(batches):
        answers = model.answer(noisy, lambda run: None)
    answers.cpu()


def _print_speed(workload: Workload, namespace: Any, device: torch.device) -> None:
    settings = [SETTINGS[name] for name in namespace.settings]
    reason = can_compile(device)
    if reason and SETTINGS["compiled"] in settings:
        print(f"compiled is left out: {reason}")
        settings.remove(SETTINGS["compiled"])
    batch, shape = namespace.batch, workload.info.image_shape
    loop_process = _LoopProcess(workload.name, batch, device.type)
    models = [workload.smoothed(batch, setting, device) for setting in settings]
    image = torch.full(shape, 0.5)
    noisy = NumpyNoise().noisy([Votes(KEY, 0, 0, batch)], [image], SIGMA, batch).to(device)
    for model in models:  # compiles
        _run(model, MajorityVote(batch), image)
    once = loop_process.seconds(batch)
    batches = max(2, round(namespace.seconds / once))
    votes = batches * batch
    print(f"\n{workload.title}; batches of {batch}, {votes} votes a repetition")
    loop: list[float] = []
    engine: list[list[float]] = [[] for _ in models]
    networks: list[list[float]] = [[] for _ in models]
    for _ in range(namespace.repetitions):  # interleaved: the machine's speed drifts
        loop.append(loop_process.seconds(votes))
        for i, model in enumerate(models):
            run = lambda m=model: _run(m, MajorityVote(votes), image, namespace.noise)  # noqa: E731
            engine[i].append(_seconds(run, device))
            alone = lambda m=model: _run_networks(m, noisy, batches)  # noqa: E731
            networks[i].append(_seconds(alone, device))
    loop_process.end()
    without = "" if device.type == "cuda" else " (nothing of it is used on a CPU)"
    print(f"CUDA's switches{without}:")
    print(f"(a) {loop_process.numerics}\n(b) {current_numerics()}")
    rate = votes / statistics.median(loop)
    print(f"{'':22} votes/s   x published   outside the networks   votes as float32")
    print(f"{'(a) published loop':22} {rate:7.1f}   {1:11.2f}")
    agreements = _agreements(workload, models, settings, device)
    for i, setting in enumerate(settings):
        rate = votes / statistics.median(engine[i])
        ratio = statistics.median(a / b for a, b in zip(loop, engine[i], strict=True))
        outside = statistics.median(
            1 - inside / whole for inside, whole in zip(networks[i], engine[i], strict=True)
        )
        print(
            f"{f'(b) engine, {setting.name}':22} {rate:7.1f}   {ratio:11.2f}   "
            f"{100 * outside:18.1f} %   {agreements[i]}"
        )


class _LoopProcess:
    """The published loop in a process of its own: preparing networks changes the memory allocation
    of the whole process, which would speed the loop up, too.

    Attributes:
        numerics: under which the last votes were made, as that process found them.
    """

    numerics: Numerics

    def __init__(self, name: str, batch: int, device_type: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        arguments = (name, batch, device_type, torch.get_num_threads(), other)
        self._process = context.Process(target=_loop_child, args=arguments, daemon=True)
        self._process.start()
        other.close()  # so that a child that dies is noticed
        self.seconds(batch)  # warms up

    def seconds(self, votes: int) -> float:
        """Of so many votes."""
        try:
            self._pipe.send(votes)
            seconds, self.numerics = self._pipe.recv()
            return float(seconds)
        except (EOFError, BrokenPipeError):
            raise UserError("the process of the published loop failed") from None

    def end(self) -> None:
        self._pipe.close()
        self._process.join()


def _loop_child(name: str, batch: int, device_type: str, threads: int, pipe: Any) -> None:
    torch.set_num_threads(threads)
    device = pick_device("cpu" if device_type == "cpu" else "gpu")
    workload = WORKLOADS[name]
    loop, image = _published(workload, batch, device), torch.full(workload.info.image_shape, 0.5)
    while True:
        try:
            votes = pipe.recv()
        except EOFError:
            return
        numerics = published_numerics(workload.info.name)
        pipe.send(_time_published(loop, image, votes, device, numerics))


def _time_published(
    loop: PublishedLoop, image: Tensor, votes: int, device: torch.device, numerics: Numerics
) -> tuple[float, Numerics]:
    """Seconds of so many votes under the published switches; and these, as they stood then."""
    with numerics_of(numerics):
        return _seconds(partial(loop.count_votes, image, votes), device), current_numerics()


def _published(workload: Workload, batch: int, device: torch.device) -> PublishedLoop:
    model = workload.smoothed(batch, SETTINGS["plain"], device)
    return PublishedLoop(
        getattr(model.purifier, "denoiser", None),
        model.local_smoothing.classifier,
        SIGMA,
        workload.m,
        workload.sigma_local,
        workload.info.image_shape,
        workload.info.num_classes,
        batch,
    )


@torch.inference_mode()
def _agreements(
    workload: Workload,
    models: list[VoteFunction],
    settings: list[Setting],
    device: torch.device,
) -> list[str]:
    """Share of votes on real images that are those of float32, the networks as loaded."""
    if workload.name == "full":
        return ["(random weights)"] * len(models)
    images = load_images("fashion_mnist_sample", "data")
    batch = models[0].batch
    reference = workload.smoothed(batch, SETTINGS["plain"], device)
    same, total = [0] * len(models), 0
    for index in range(0, len(images), len(images) // AGREEMENT_IMAGES):
        for first in range(0, AGREEMENT_VOTES, batch):
            count = min(batch, AGREEMENT_VOTES - first)
            votes = [Votes(KEY._replace(image=index), 0, first, count)]
            noisy = NumpyNoise().noisy(votes, [images[index].image], SIGMA, batch).to(device)
            expected = reference.answer(noisy, lambda run: None)[:count]
            total += count
            for i, model in enumerate(models):
                answers = model.answer(noisy, lambda run: None)[:count]
                same[i] += int((answers == expected).sum())
    return [f"{rounded_down(100 * count / total, 2)} % of {total}" for count in same]


def _in_processes(name: str, setting: str, batch: int, votes: int, processes: int) -> list[Any]:
    """(seconds, peak bytes) of each of some processes of one thread that vote at once."""
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(processes), context.Queue()
    arguments = (name, setting, batch, votes, barrier, results)
    children = [context.Process(target=_child, args=arguments) for _ in range(processes)]
    for child in children:
        child.start()
    found: list[Any] = []
    while len(found) < processes:
        try:
            found.append(results.get(timeout=1))
        except queue.Empty:
            if any(child.exitcode for child in children):
                for child in children:
                    child.kill()
                raise UserError("a process that was to be measured failed") from None
    for child in children:
        child.join()
    return found


def _child(name: str, setting: str, batch: int, votes: int, barrier: Barrier, results: Any) -> None:
    torch.set_num_threads(1)
    device = pick_device("cpu")
    workload = WORKLOADS[name]
    model = workload.smoothed(batch, SETTINGS[setting], device)
    image = torch.full(workload.info.image_shape, 0.5)
    _run(model, MajorityVote(batch), image)
    barrier.wait()
    seconds = _seconds(lambda: _run(model, MajorityVote(votes), image), device)
    results.put((seconds, _peak_bytes()))


def _peak_bytes() -> int:
    """The most memory that this process has had.

    Not by getrusage on Linux: there a new process takes over the peak of the one that started it.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", status.read_text())
        return 1024 * int(peak)
    peak_units = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak_units if sys.platform == "darwin" else 1024 * peak_units


def _print_memory(namespace: Any, device: torch.device) -> None:
    few, many = min(1000, namespace.n), namespace.n
    peaks, setting = [], _fastest(device)
    for votes in (few, many):
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            model = WORKLOADS["cohen"].smoothed(namespace.batch, SETTINGS[setting], device)
            _run(model, MajorityVote(votes), torch.full((1, 32, 32), 0.5), namespace.noise)
            peaks.append(torch.cuda.max_memory_allocated(device))
        else:
            ((_, peak),) = _in_processes("cohen", setting, namespace.batch, votes, 1)
            peaks.append(peak)
    print(
        f"\npeak memory (Cohen's method, {setting}): {peaks[0] / 2**20:,.0f} MiB at N = {few:,}, "
        f"{peaks[1] / 2**20:,.0f} MiB at N = {many:,}"
    )


def _print_processes(namespace: Any) -> None:
    rates: list[list[float]] = [[], []]
    votes, setting = 20 * namespace.batch, _fastest(torch.device("cpu"))
    for _ in range(namespace.repetitions):
        for i, processes in enumerate((1, 2)):
            found = _in_processes("small", setting, namespace.batch, votes, processes)
            rates[i].append(sum(votes / seconds for seconds, _ in found))
    one, two = map(statistics.median, rates)
    ratio = statistics.median(b / a for a, b in zip(*rates, strict=True))
    print(
        f"\nprocesses of one thread (shipped networks, {setting}): one {one:.1f} votes/s, two "
        f"{two:.1f} votes/s, {ratio:.2f} times"
    )


def _print_sequential(namespace: Any, device: torch.device) -> None:
    plan = GroupSequential(n=namespace.n)
    images = load_images("fashion_mnist_sample", "data")
    step = max(1, len(images) // namespace.images)
    chosen = range(0, len(images), step)[: namespace.images]
    model = WORKLOADS["cohen"].smoothed(namespace.batch, SETTINGS[_fastest(device)], device)
    used = []
    with VoteEngine(model, plan, noise_source(namespace.noise, device)) as engine:
        for index in chosen:
            engine.submit(Task(images[index].image, KEY._replace(image=index)))
            while not engine.needs_task:
                used += [f.certificate.votes for f in engine.step() if f.certificate]
        used += [f.certificate.votes for f in engine.drain() if f.certificate]
    mean = statistics.mean(used)
    error = f"{statistics.stdev(used) / len(used) ** 0.5:,.0f}" if len(used) > 1 else "?"
    print(
        f"\nsequential plan (Cohen's method, {len(used)} shipped images, radii "
        f"{' '.join(f'{radius:g}' for radius in plan.radii)}): {mean:,.0f} +- {error} votes an "
        f"image on average (+- the standard error), {min(used):,} to {max(used):,}; fixed: "
        f"{plan.max_votes:,}; {rounded_down(plan.max_votes / mean, 1)} times fewer"
    )
