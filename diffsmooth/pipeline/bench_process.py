"""Votes measured in this process and in others: in seconds, and in bytes."""

import multiprocessing
import queue
import re
import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cache, partial
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffsmooth.models.smoothing.engine import Task, VoteEngine
from diffsmooth.models.smoothing.noise import NoiseKey
from diffsmooth.models.smoothing.noise_sources import noise_source
from diffsmooth.models.smoothing.precision import Numerics, current_numerics, numerics_of
from diffsmooth.models.smoothing.vote_function import VoteFunction
from diffsmooth.models.words import SourceName
from diffsmooth.pipeline.device import pick_device
from diffsmooth.pipeline.published_loop import PublishedLoop, published_numerics
from diffsmooth.pipeline.workloads import WORKLOADS
from diffsmooth.stats import MajorityVote
from diffsmooth.stats.errors import UserError

GREY = 128 / 255  # on the 8-bit grid
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


def vote(model: VoteFunction, votes: int, image: Tensor, noise: SourceName = "integer") -> None:
    source = noise_source(noise, model.device)
    with VoteEngine(model, MajorityVote(votes), source) as engine:
        engine.submit(Task(image, KEY))
        (finished,) = engine.drain()
    if finished.error is not None:
        raise finished.error


def loop_process() -> ProcessPoolExecutor:
    """A process for the published loop alone."""
    # Preparing networks changes the memory allocation of a process, which speeds the loop up, too.
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))


def time_loop(
    pool: ProcessPoolExecutor, name: str, batch: int, device: torch.device, votes: int
) -> tuple[float, Numerics]:
    """Seconds of so many votes there, and the switches under which they were made.

    Raises:
        UserError: the process is lost.
    """
    threads = torch.get_num_threads()
    try:
        return pool.submit(_time_loop, name, batch, device.type, threads, votes).result()
    except BrokenProcessPool:
        raise UserError("the process of the published loop failed") from None


def _time_loop(
    name: str, batch: int, device_type: str, threads: int, votes: int
) -> tuple[float, Numerics]:
    torch.set_num_threads(threads)
    device, info = pick_device("cpu" if device_type == "cpu" else "gpu"), WORKLOADS[name].info
    image, numerics = torch.full(info.image_shape, GREY), published_numerics(info.name)
    return _time_published(_loop(name, batch, device), image, votes, device, numerics)


@cache
def _loop(name: str, batch: int, device: torch.device) -> PublishedLoop:
    return PublishedLoop(WORKLOADS[name].f(batch, "plain", device))


def _time_published(
    loop: PublishedLoop, image: Tensor, votes: int, device: torch.device, numerics: Numerics
) -> tuple[float, Numerics]:
    """Seconds of so many votes under the published switches; and these, as they stood then."""
    with numerics_of(numerics):
        return seconds_of(partial(loop.count_votes, image, votes), device), current_numerics()


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
    model = workload.f(batch, mode, device)
    image = torch.full(workload.info.image_shape, GREY)
    vote(model, batch, image)
    barrier.wait()
    seconds = seconds_of(lambda: vote(model, votes, image), device)
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
