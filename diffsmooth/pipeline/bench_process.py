"""Votes measured in this process and in others: in seconds, and in bytes."""

import multiprocessing
import queue
import re
import resource
import sys
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffsmooth.models.smoothing.engine import Task, VoteEngine
from diffsmooth.models.smoothing.noise import NoiseKey, noise_source
from diffsmooth.models.smoothing.precision import Numerics, current_numerics, numerics_of
from diffsmooth.models.smoothing.vote_function import VoteFunction
from diffsmooth.pipeline.device import pick_device
from diffsmooth.pipeline.published_loop import PublishedLoop, published_numerics
from diffsmooth.pipeline.workloads import MODES, SIGMA, WORKLOADS, Workload
from diffsmooth.stats import MajorityVote, Plan
from diffsmooth.stats.errors import UserError

KEY = NoiseKey(0, "certify", "bench", "test", 0)


def seconds_of(work: Callable[[], object], device: torch.device) -> float:
    """How long some work takes."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def vote(model: VoteFunction, plan: Plan, image: Tensor, noise: str = "numpy") -> None:
    with VoteEngine(model, plan, noise_source(noise, model.device)) as engine:  # type: ignore[arg-type]
        engine.submit(Task(image, KEY))
        (finished,) = engine.drain()
    if finished.error is not None:
        raise finished.error


class LoopProcess:
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
        return seconds_of(partial(loop.count_votes, image, votes), device), current_numerics()


def _published(workload: Workload, batch: int, device: torch.device) -> PublishedLoop:
    model = workload.f(batch, MODES["plain"], device)
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


def in_processes(name: str, mode: str, batch: int, votes: int, processes: int) -> list[Any]:
    """(seconds, peak bytes) of each of some processes of one thread that vote at once."""
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(processes), context.Queue()
    arguments = (name, mode, batch, votes, barrier, results)
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


def _child(name: str, mode: str, batch: int, votes: int, barrier: Barrier, results: Any) -> None:
    torch.set_num_threads(1)
    device = pick_device("cpu")
    workload = WORKLOADS[name]
    model = workload.f(batch, MODES[mode], device)
    image = torch.full(workload.info.image_shape, 0.5)
    vote(model, MajorityVote(batch), image)
    barrier.wait()
    seconds = seconds_of(lambda: vote(model, MajorityVote(votes), image), device)
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
