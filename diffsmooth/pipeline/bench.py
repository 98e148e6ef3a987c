"""Votes a second of the published loop and of the engine on this machine, and what they take."""

import platform
import statistics
from datetime import UTC, datetime
from pathlib import Path

import torch

from diffsmooth.lit.data import load_images
from diffsmooth.models.smoothing.engine import Task, VoteEngine
from diffsmooth.models.smoothing.noise_sources import noise_source
from diffsmooth.models.smoothing.precision import resolve_precision
from diffsmooth.pipeline.bench_findings import (
    Findings,
    LeftOut,
    Machine,
    MatrixPeak,
    PeakMemory,
    ProcessRates,
    SequentialVotes,
)
from diffsmooth.pipeline.bench_process import GREY, KEY, in_processes, seconds_of, vote
from diffsmooth.pipeline.bench_speed import print_speed
from diffsmooth.pipeline.bench_training import training_rates
from diffsmooth.pipeline.command_specification import BenchOptions
from diffsmooth.pipeline.device import can_compile, pick_device
from diffsmooth.pipeline.workloads import MODES, WORKLOADS
from diffsmooth.stats import GroupSequential

MATRIX_SIDES = {"cpu": 2048, "cuda": 8192}  # smaller ones measure a GPU's launch time


def measure(options: BenchOptions) -> None:
    """Prints the sections that are asked for, one after the other.

    Raises:
        UserError: a device that is not there.
    """
    device = pick_device(options.accelerator)
    settings = options.settings
    if settings is None:
        settings = ["plain", "float32"]
        settings += ["bf16"] if fastest_mode(device) == "bf16" else []
        settings += ["compiled"] if device.type == "cuda" else []
    findings = Findings(Path(options.json) if options.json is not None else None)
    findings.tell(_machine(device))
    reason = can_compile(device) if "compiled" in settings else ""
    if reason:
        findings.tell(LeftOut("compiled", reason))
        settings = [setting for setting in settings if setting != "compiled"]
    peaks = {peak.precision: peak.gflops for peak in _tell_matrix_peaks(settings, device, findings)}
    if "speed" in options.sections:
        for name in options.workloads:
            print_speed(name, settings, options, device, peaks, findings)
    if "memory" in options.sections:
        findings.tell(_memory(options, device))
    if "processes" in options.sections and device.type == "cpu":
        findings.tell(_processes(options))
    if "sequential" in options.sections:
        findings.tell(_sequential(options, device))
    if "training" in options.sections:
        for rate in training_rates(options.seconds, device):
            findings.tell(rate)


def fastest_mode(device: torch.device) -> str:
    """The mode that `certify` takes of its own accord, but for compiling."""
    return resolve_precision("auto", device.type)


def machine_text(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu ({torch.backends.cpu.get_cpu_capability()})"


def _machine(device: torch.device) -> Machine:
    date = datetime.now(UTC).isoformat(timespec="seconds")
    return Machine(
        machine_text(device), torch.__version__, torch.version.cuda, platform.python_version(),
        torch.get_num_threads(), date,
    )  # fmt: skip


def _tell_matrix_peaks(
    settings: list[str], device: torch.device, findings: Findings
) -> list[MatrixPeak]:
    # Where bf16 is emulated, a product takes seconds: only where something is measured in it.
    wanted = {MODES[setting].precision for setting in settings}
    dtypes = {"float32": torch.float32, "bf16": torch.bfloat16}
    side, peaks = MATRIX_SIDES[device.type], []
    for precision, dtype in dtypes.items():
        if precision in wanted:
            a = torch.randn(side, side, device=device).to(dtype)
            best = min(seconds_of(lambda a=a: a @ a, device) for _ in range(10))  # type: ignore[misc]
            peaks.append(MatrixPeak(precision, str(dtype), side, 2 * side**3 / best / 1e9))
            findings.tell(peaks[-1])
    return peaks


def _memory(options: BenchOptions, device: torch.device) -> PeakMemory:
    few, many = min(1000, options.n), options.n
    peaks, mode, batch = [], fastest_mode(device), options.fixed_batch
    for votes in (few, many):
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            model = WORKLOADS["cohen"].f(batch, mode, device)
            vote(model, votes, torch.full((1, 32, 32), GREY), options.noise)
            peaks.append(torch.cuda.max_memory_allocated(device))
        else:
            ((_, peak),) = in_processes("cohen", mode, batch, votes, 1)
            peaks.append(peak)
    return PeakMemory(mode, (few, many), (peaks[0], peaks[1]))


def _processes(options: BenchOptions) -> ProcessRates:
    rates: list[list[float]] = [[], []]
    votes, mode = 20 * options.fixed_batch, fastest_mode(torch.device("cpu"))
    for _ in range(options.repetitions):
        for i, processes in enumerate((1, 2)):
            found = in_processes("small", mode, options.fixed_batch, votes, processes)
            rates[i].append(sum(votes / seconds for seconds, _ in found))
    one, two = map(statistics.median, rates)
    ratio = statistics.median(b / a for a, b in zip(*rates, strict=True))
    return ProcessRates(mode, one, two, ratio)


def _sequential(options: BenchOptions, device: torch.device) -> SequentialVotes:
    plan = GroupSequential(n=options.n)
    images = load_images("fashion_mnist_sample", "data")
    step = max(1, len(images) // options.images)
    chosen = range(0, len(images), step)[: options.images]
    model = WORKLOADS["cohen"].f(options.fixed_batch, fastest_mode(device), device)
    used: list[int] = []
    with VoteEngine(model, plan, noise_source(options.noise, device)) as engine:
        for index in chosen:
            engine.submit(Task(images[index].image, KEY._replace(image=index)))
            while not engine.needs_task:
                used += [f.certificate.votes for f in engine.step() if f.certificate]
        used += [f.certificate.votes for f in engine.drain() if f.certificate]
    error = statistics.stdev(used) / len(used) ** 0.5 if len(used) > 1 else None
    return SequentialVotes(
        len(used), plan.radii, statistics.mean(used), error, min(used), max(used), plan.max_votes
    )
