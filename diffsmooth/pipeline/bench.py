"""Votes a second of the published loop and of the engine on this machine, and what they take."""

import statistics

import torch
from torch import Tensor

from diffsmooth.lit.data import load_images
from diffsmooth.models.smoothing.engine import Task, VoteEngine
from diffsmooth.models.smoothing.noise import NumpyNoise, Votes
from diffsmooth.models.smoothing.noise_sources import noise_source
from diffsmooth.models.smoothing.precision import current_numerics, resolve_precision
from diffsmooth.models.smoothing.vote_function import VoteFunction
from diffsmooth.pipeline.bench_process import (
    GREY,
    KEY,
    in_processes,
    loop_process,
    seconds_of,
    time_loop,
    vote,
)
from diffsmooth.pipeline.bench_training import print_training
from diffsmooth.pipeline.command_specification import BENCHMARKS, BenchOptions
from diffsmooth.pipeline.device import can_compile, pick_device
from diffsmooth.pipeline.workloads import MODES, SIGMA, WORKLOADS
from diffsmooth.stats import GroupSequential
from diffsmooth.stats.printed import rounded_down

MATRIX_SIDE = 2048
AGREEMENT_IMAGES, AGREEMENT_VOTES = 40, 50


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
    print(f"{machine_text(device)}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    _print_matrix_peaks(settings, device)
    if "speed" in options.sections:
        for name in options.workloads:
            _print_speed(name, settings, options, device)
    if "memory" in options.sections:
        _print_memory(options, device)
    if "processes" in options.sections and device.type == "cpu":
        _print_processes(options)
    if "sequential" in options.sections:
        _print_sequential(options, device)
    if "training" in options.sections:
        print_training(options.seconds, device)


def fastest_mode(device: torch.device) -> str:
    """The mode that `certify` takes of its own accord, but for compiling."""
    return resolve_precision("auto", device.type)


def machine_text(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu ({torch.backends.cpu.get_cpu_capability()})"


def _print_matrix_peaks(settings: list[str], device: torch.device) -> None:
    # Where bf16 is emulated, a product takes seconds: only where something is measured in it.
    wanted = {MODES[setting].precision for setting in settings}
    dtypes = {"float32": torch.float32, "bf16": torch.bfloat16}
    for dtype in (dtype for precision, dtype in dtypes.items() if precision in wanted):
        a = torch.randn(MATRIX_SIDE, MATRIX_SIDE, device=device).to(dtype)
        best = min(seconds_of(lambda a=a: a @ a, device) for _ in range(10))  # type: ignore[misc]
        print(f"matrix product, {dtype}: {2 * MATRIX_SIDE**3 / best / 1e9:,.0f} GFLOP/s")


@torch.inference_mode()
def _run_networks(model: VoteFunction, noisy: Tensor, batches: int) -> None:
    for _ in range(batches):
        answers = model.answer(noisy, lambda run: None)
    answers.cpu()


def _print_speed(
    name: str, settings: list[str], options: BenchOptions, device: torch.device
) -> None:
    reason = can_compile(device)
    if reason and "compiled" in settings:
        print(f"compiled is left out: {reason}")
        settings = [setting for setting in settings if setting != "compiled"]
    batch, workload = options.batch, WORKLOADS[name]
    models = [workload.f(batch, setting, device) for setting in settings]
    image = torch.full(workload.info.image_shape, GREY)
    noisy = NumpyNoise().noisy([Votes(KEY, 0, 0, batch)], [image], SIGMA, batch).images.to(device)
    for model in models:  # compiles
        vote(model, batch, image)
    loop: list[float] = []
    engine: list[list[float]] = [[] for _ in models]
    networks: list[list[float]] = [[] for _ in models]
    with loop_process() as pool:
        time_loop(pool, name, batch, device, batch)  # warms up
        once, numerics = time_loop(pool, name, batch, device, batch)
        batches = max(2, round(options.seconds / once))
        votes = batches * batch
        print(f"\n{BENCHMARKS[name]}; batches of {batch}, {votes} votes a repetition")
        for _ in range(options.repetitions):  # interleaved: the machine's speed drifts
            loop.append(time_loop(pool, name, batch, device, votes)[0])
            for i, model in enumerate(models):
                run = lambda m=model: vote(m, votes, image, options.noise)  # noqa: E731
                engine[i].append(seconds_of(run, device))
                alone = lambda m=model: _run_networks(m, noisy, batches)  # noqa: E731
                networks[i].append(seconds_of(alone, device))
    without = "" if device.type == "cuda" else " (nothing of it is used on a CPU)"
    print(f"CUDA's switches{without}:")
    print(f"(a) {numerics}\n(b) {current_numerics()}")
    rate = votes / statistics.median(loop)
    print(f"{'':22} votes/s   x published   outside the networks   votes as float32")
    print(f"{'(a) published loop':22} {rate:7.1f}   {1:11.2f}")
    agreements = _agreements(name, models, device)
    for i, setting in enumerate(settings):
        rate = votes / statistics.median(engine[i])
        ratio = statistics.median(a / b for a, b in zip(loop, engine[i], strict=True))
        outside = statistics.median(
            1 - inside / whole for inside, whole in zip(networks[i], engine[i], strict=True)
        )
        print(
            f"{f'(b) engine, {setting}':22} {rate:7.1f}   {ratio:11.2f}   "
            f"{100 * outside:18.1f} %   {agreements[i]}"
        )


@torch.inference_mode()
def _agreements(name: str, models: list[VoteFunction], device: torch.device) -> list[str]:
    """Share of votes on real images that are those of float32, the networks as loaded."""
    if name == "full":
        return ["(random weights)"] * len(models)
    images = load_images("fashion_mnist_sample", "data")
    batch = models[0].batch
    reference = WORKLOADS[name].f(batch, "plain", device)
    same, total = [0] * len(models), 0
    for index in range(0, len(images), len(images) // AGREEMENT_IMAGES):
        for first in range(0, AGREEMENT_VOTES, batch):
            count = min(batch, AGREEMENT_VOTES - first)
            votes = [Votes(KEY._replace(image=index), 0, first, count)]
            noisy = NumpyNoise().noisy(votes, [images[index].image], SIGMA, batch).images.to(device)
            expected = reference.answer(noisy, lambda run: None)[:count]
            total += count
            for i, model in enumerate(models):
                answers = model.answer(noisy, lambda run: None)[:count]
                same[i] += int((answers == expected).sum())
    return [f"{rounded_down(100 * count / total, 2)} % of {total}" for count in same]


def _print_memory(options: BenchOptions, device: torch.device) -> None:
    few, many = min(1000, options.n), options.n
    peaks, mode = [], fastest_mode(device)
    for votes in (few, many):
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            model = WORKLOADS["cohen"].f(options.batch, mode, device)
            vote(model, votes, torch.full((1, 32, 32), GREY), options.noise)
            peaks.append(torch.cuda.max_memory_allocated(device))
        else:
            ((_, peak),) = in_processes("cohen", mode, options.batch, votes, 1)
            peaks.append(peak)
    print(
        f"\npeak memory (Cohen's method, {mode}): {peaks[0] / 2**20:,.0f} MiB at N = {few:,}, "
        f"{peaks[1] / 2**20:,.0f} MiB at N = {many:,}"
    )


def _print_processes(options: BenchOptions) -> None:
    rates: list[list[float]] = [[], []]
    votes, mode = 20 * options.batch, fastest_mode(torch.device("cpu"))
    for _ in range(options.repetitions):
        for i, processes in enumerate((1, 2)):
            found = in_processes("small", mode, options.batch, votes, processes)
            rates[i].append(sum(votes / seconds for seconds, _ in found))
    one, two = map(statistics.median, rates)
    ratio = statistics.median(b / a for a, b in zip(*rates, strict=True))
    print(
        f"\nprocesses of one thread (shipped networks, {mode}): one {one:.1f} votes/s, two "
        f"{two:.1f} votes/s, {ratio:.2f} times"
    )


def _print_sequential(options: BenchOptions, device: torch.device) -> None:
    plan = GroupSequential(n=options.n)
    images = load_images("fashion_mnist_sample", "data")
    step = max(1, len(images) // options.images)
    chosen = range(0, len(images), step)[: options.images]
    model = WORKLOADS["cohen"].f(options.batch, fastest_mode(device), device)
    used = []
    with VoteEngine(model, plan, noise_source(options.noise, device)) as engine:
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
