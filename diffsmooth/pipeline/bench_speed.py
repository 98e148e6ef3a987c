"""Votes a second of a pair of networks: by the published loop, and by the engine's settings."""

import gc
import statistics
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import torch

from diffsmooth.models import IdentityPurifier
from diffsmooth.models.smoothing.fixed_function import ensure_fixed
from diffsmooth.models.smoothing.memory import OutOfMemory, in_short, is_out_of_memory
from diffsmooth.models.smoothing.precision import current_numerics
from diffsmooth.models.smoothing.vote_function import VoteFunction
from diffsmooth.pipeline.batch_choice import LARGEST, chosen_batch
from diffsmooth.pipeline.bench_contestants import Contestant, Engine, Loop, agreement_of
from diffsmooth.pipeline.bench_findings import (
    EngineRate,
    Findings,
    Heading,
    LeftOut,
    LoopRate,
    NetworkRate,
    RowBits,
    Subject,
    Switches,
    WorkShare,
)
from diffsmooth.pipeline.bench_process import loop_process
from diffsmooth.pipeline.bench_profile import milliseconds_by_kind
from diffsmooth.pipeline.command_specification import BENCHMARKS, BenchOptions
from diffsmooth.pipeline.work_of_a_batch import flops_a_vote
from diffsmooth.pipeline.workloads import MODES, WORKLOADS

SHORT = 0.1  # of a repetition: a batch that takes less is timed in a row of ROW
ROW = 8


class Entry(NamedTuple):
    """Who is to be measured, and how that begins: networks are made, and memory is taken."""

    what: str
    begin: Callable[[], Contestant]


class Measured(NamedTuple):
    """Votes a second in each repetition, and an engine's share of the time outside its networks."""

    who: Contestant
    rates: list[float]
    outside: list[float]
    batches: int


class Scale(NamedTuple):
    """What rates are compared with: FLOPs of a vote by network, and a product's GFLOP/s."""

    flops: dict[str, int | None]
    peaks: dict[str, float]

    @property
    def both(self) -> int | None:
        counts = [count for count in self.flops.values() if count is not None]
        return sum(counts) if len(counts) == len(self.flops) else None


def print_speed(
    name: str,
    settings: Sequence[str],
    options: BenchOptions,
    device: torch.device,
    peaks: dict[str, float],
    findings: Findings,
) -> None:
    """Measures a workload, and tells what was found.

    Args:
        name: of `WORKLOADS`.
        settings: of the engine, of `MODES`.
        options: how.
        device: on which.
        peaks: GFLOP/s of a matrix product, by precision.
        findings: tells.
    """
    flops, batches = _sizes(name, settings, options, device)
    scale = Scale(flops, peaks)
    gflop = None if scale.both is None else scale.both / 1e9
    findings.tell(Subject(name, BENCHMARKS[name], gflop, options.noise))
    pool = loop_process()
    loops = [
        Entry(f"published loop at batch {batch}", partial(Loop, pool, name, batch, device))
        for batch in options.loop_batch or [options.fixed_batch]
    ]
    engines = [
        Entry(
            f"{setting} at batch {batches[setting]}",
            partial(Engine, name, setting, batches[setting], device, options.noise),
        )
        for setting in settings
    ]
    # The speed of a machine that others use drifts: all are measured in turn. A GPU has room for
    # one at a time.
    turns = [loops + engines] if device.type == "cpu" else [loops, *([one] for one in engines)]
    best: list[float] | None = None
    for turn in turns:
        best = _take_turn(turn, best, scale, options, device, findings)
        pool.shutdown()
        if device.type == "cuda":
            torch.compiler.reset()  # its graphs hold memory
            gc.collect()
            torch.cuda.empty_cache()


def _take_turn(
    turn: list[Entry],
    best: list[float] | None,
    scale: Scale,
    options: BenchOptions,
    device: torch.device,
    findings: Findings,
) -> list[float] | None:
    """Measures some, and tells it; the rates of the best published loop, if there is one by now."""
    measured = _measure(list(_begun(turn, findings)), options)
    loops = [one for one in measured if isinstance(one.who, Loop)]
    if loops:
        best = max((one.rates for one in loops), key=statistics.median)
        assert isinstance(loops[0].who, Loop)
        if device.type == "cuda":  # a CPU uses none of them
            findings.tell(Switches(str(loops[0].who.numerics), str(current_numerics())))
        findings.tell(Heading())
        for one in loops:
            rate = statistics.median(one.rates)
            findings.tell(LoopRate(one.who.batch, rate, rate / statistics.median(best)))
    for one in measured:
        if isinstance(one.who, Engine):
            _tell_engine(one.who, one, best, scale, options, findings)
    return best


def _sizes(
    name: str, settings: Sequence[str], options: BenchOptions, device: torch.device
) -> tuple[dict[str, int | None], dict[str, int]]:
    """FLOPs of a vote by network, and the batch of each setting."""
    f = WORKLOADS[name].loaded(1, "plain", device)
    local = f.local_smoothing
    alone = VoteFunction(IdentityPurifier(), local, f.sigma, f.num_classes, 1, copy=False)
    both, classifier = flops_a_vote(f), flops_a_vote(alone)
    flops = {"classifier": classifier}
    if not isinstance(f.purifier, IdentityPurifier):
        known = both is not None and classifier is not None
        flops = {"purifier": both - classifier if known else None} | flops  # type: ignore[operator]
    batches: dict[str, int] = {}
    for setting in settings:
        f.precision = MODES[setting].precision
        batches[setting] = (
            chosen_batch(options.fixed_batch, LARGEST, f, device)
            if options.batch == "auto"
            else options.batch
        )
    return flops, batches


def _begun(turn: list[Entry], findings: Findings) -> Iterator[Contestant]:
    """Each that fits into the memory, warmed up."""
    for entry in turn:
        try:
            one = entry.begin()
            one.seconds(1)
        except Exception as error:
            if not isinstance(error, OutOfMemory) and not is_out_of_memory(error):
                raise
            findings.tell(LeftOut(entry.what, in_short(error)))
        else:
            yield one


def _measure(contestants: list[Contestant], options: BenchOptions) -> list[Measured]:
    measured = []
    for one in contestants:
        batches, once = 1, one.seconds(1)
        if once < SHORT * options.seconds:  # most of it was the set-up
            once = one.seconds(ROW) / ROW
        batches = max(2, round(options.seconds / once))
        measured.append(Measured(one, [], [], batches))
    for _ in range(options.repetitions):
        for who, rates, outside, batches in measured:
            whole = who.seconds(batches)
            rates.append(batches * who.batch / whole)
            if isinstance(who, Engine):
                outside.append(1 - who.network_seconds(batches) / whole)
    return measured


def _tell_engine(
    engine: Engine,
    measured: Measured,
    best: list[float] | None,
    scale: Scale,
    options: BenchOptions,
    findings: Findings,
) -> None:
    ratio = None
    if best is not None:
        ratio = statistics.median(a / b for a, b in zip(measured.rates, best, strict=True))
    rate, outside = statistics.median(measured.rates), statistics.median(measured.outside)
    agreement = agreement_of(engine)
    findings.tell(EngineRate(engine.setting, engine.batch, rate, ratio, outside, agreement))
    fixed = ensure_fixed(engine.f)
    findings.tell(RowBits(engine.setting, fixed.exact, str(fixed)))
    peak = scale.peaks.get(MODES[engine.setting].precision)
    networks = scale.flops
    if engine.f._compiled_call_impl is not None:  # as a whole: there are no parts to run
        networks = {"both": scale.both}
    for network, flops in networks.items():
        seconds = engine.network_seconds(measured.batches, network)
        seconds /= measured.batches * engine.batch
        gflops = None if flops is None else flops / seconds / 1e9
        share = None if gflops is None or peak is None else gflops / peak
        gflop = None if flops is None else flops / 1e9
        findings.tell(NetworkRate(engine.setting, network, 1e3 * seconds, gflop, gflops, share))
    if options.profile:
        kinds = milliseconds_by_kind(engine.f, options.noise, engine.image)
        total = sum(kinds.values())
        for kind, milliseconds in kinds.items():
            findings.tell(WorkShare(engine.setting, kind, milliseconds, milliseconds / total))
