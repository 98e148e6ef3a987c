"""`diffsmooth forecast`: votes, hours and load of a run to come, from a small one."""

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np

from diffsmooth.cli.errors import OneLineParser, user_errors
from diffsmooth.cli.plan_options import add_plan_options, build_plan
from diffsmooth.pipeline.option_checks import check_most
from diffsmooth.runs.journal import read_journal
from diffsmooth.stats import FixedSampleSize, Plan
from diffsmooth.stats.errors import UserError, option_values
from diffsmooth.stats.forecast import Estimate, forecast_average, forecast_votes, simulate_loads
from diffsmooth.stats.pilot import Unresolved, pilot_images, unresolved
from diffsmooth.stats.printed import digits_up, radius_label, rounded_down, rounded_up

LEAST_RATE, MOST_RATE = 1e-6, 1e15  # votes a second
IMAGES_TO_SIMULATE = 1_000_000  # in all runs, which take a second
LEAST_RUNS, MOST_RUNS = 10, 1000


def main(args: list[str] | None = None, prog: str = "diffsmooth forecast") -> None:
    """Runs the command on `args`, by default the process's."""
    parser = OneLineParser(prog=prog, description=__doc__)
    add = parser.add_argument
    add("pilot", type=str, help="journal (.jsonl) of a run on images of that kind, at that sigma")
    add("--rate", type=float, required=True,
        help="votes a second of a device, as `diffsmooth bench` shows them")  # fmt: skip
    add("--images", type=int, default=500, help="images of the run")
    add("--devices", type=int, nargs="+", default=[1, 8, 64], help="numbers of devices")
    add("--n", "--N", dest="n", type=int, default=100_000, help="votes an image, at most")
    add("--alpha", type=float, default=0.001, help="failure probability an image")
    add("--seed", type=int, default=0, help="of the simulation")
    add_plan_options(parser)
    parser.set_defaults(plan="group_sequential")
    namespace = parser.parse_args(args)
    with user_errors(prog):
        for name, values in (("images", [namespace.images]), ("devices", namespace.devices)):
            if min(values) < 1:
                raise UserError(f"{name} must be at least 1, got {min(values)}")
            check_most(name, max(values))
        if not namespace.rate > 0:
            raise UserError(f"rate must be > 0, got {namespace.rate}")
        if not LEAST_RATE <= namespace.rate <= MOST_RATE:
            raise UserError(
                f"rate must be in {LEAST_RATE:g} .. {MOST_RATE:g}, got {namespace.rate}"
            )
        path = Path(namespace.pilot)
        if not path.is_file():
            raise UserError(f"{path}: no such file")
        records = read_journal(path).records
        certificates = [record.certificate for record in records]
        pilot = pilot_images(certificates, [_known(record.label) for record in records])
        if len({certificate.sigma for certificate in certificates}) > 1:
            raise UserError(f"{path}: of several sigmas, which are not one run")
        sigma = certificates[0].sigma
        plan = build_plan(namespace)
        with option_values("seed"):
            rng = np.random.default_rng(namespace.seed)
        votes = forecast_votes(pilot, plan, sigma, rng)
    fixed = FixedSampleSize(namespace.n0, namespace.n, namespace.alpha).max_votes
    average = forecast_average(votes, pilot, plan, sigma, rng)
    _print_votes(votes, average, plan, fixed)
    _print_loads(votes, average, namespace, fixed, rng)
    short = unresolved(pilot, plan, sigma)
    if short is not None:
        print(_warning(short, len(pilot), prog), file=sys.stderr)


def _known(label: int | None) -> int | None:
    return label if label is not None and label >= 0 else None


def _print_votes(votes: np.ndarray, average: Estimate, plan: Plan, fixed: int) -> None:
    low, middle, high = np.ceil(np.percentile(votes, [10, 50, 90]))
    print(
        f"{plan.name}: {math.ceil(average.mean):,} {_plus_minus(average)} votes an image on "
        f"average (10 % take up to {low:,.0f}, half {middle:,.0f}, 90 % {high:,.0f}); fixed: "
        f"{fixed:,}, {rounded_down(fixed / average.mean, 1)} times as many"
    )
    print(
        f"(+- is the standard error, by {len(votes):,} images of the pilot and by what their votes "
        f"leave open; each played {votes.shape[1]:,} times)"
    )


def _plus_minus(average: Estimate) -> str:
    return "+- ?" if math.isinf(average.error) else f"+- {math.ceil(average.error):,}"


def _print_loads(
    votes: np.ndarray, average: Estimate, namespace: Any, fixed: int, rng: np.random.Generator
) -> None:
    images, second = namespace.images, 3600 * namespace.rate
    repetitions = min(max(IMAGES_TO_SIMULATE // images, LEAST_RUNS), MOST_RUNS)
    print(f"{'':9} {'queue':33}{'shards':33}fixed")
    print("devices  " + 2 * f" {'hours':18}{'longest / mean':15}" + "hours")
    runs = simulate_loads(votes, images, namespace.devices, repetitions, rng)
    for devices, loads in zip(namespace.devices, runs, strict=True):
        cells = ""
        for longest in (loads.queue, loads.striped):
            hours, ratio = longest / second, longest / loads.mean
            of_hours = f"{digits_up(_mean(hours), 3)} +- {digits_up(_spread(hours), 2)}"
            of_ratio = f"{rounded_up(_mean(ratio))} +- {rounded_up(_spread(ratio))}"
            cells += f" {of_hours:17} {of_ratio:15}"
        whole = -(-images // devices) * fixed
        print(f"{devices:7}  {cells}{digits_up(whole / second, 3)}")
    pilot = "by an amount not known"
    if math.isfinite(average.error):
        pilot = f"{rounded_up(100 * average.error / average.mean, 1)} %, together"
    print(
        f"(means of {repetitions:,} simulated runs of {images:,} images, +- the standard deviation "
        f"of one run; the pilot's error shifts all hours, but fixed, {pilot})"
    )


def _mean(values: np.ndarray) -> float:
    return float(values.mean() if np.ptp(values) else values[0])  # without rounding errors


def _spread(values: np.ndarray) -> float:
    return float(values.std()) if np.ptp(values) else 0.0


def _warning(short: Unresolved, images: int, prog: str) -> str:
    radius, known = (radius_label(r, most=3) for r in (short.radius, short.known))
    wanted = "no pilot" if math.isinf(short.n) else f"a pilot of N = {short.n:,} or more"
    return (
        f"{prog}: warning: radius {radius} is beyond what this pilot tells: {short.images:,} of "
        f"its {images:,} images had all votes for one class, and so few votes know nothing above "
        f"radius {known}. What these images cost is guessed from the others; {wanted} would tell"
    )
