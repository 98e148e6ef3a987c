"""`diffsmooth forecast`: votes, hours and load of a run to come, from a small one."""

import math
from pathlib import Path

import numpy as np

from diffsmooth.cli.errors import OneLineParser, option_values, user_errors
from diffsmooth.cli.option_checks import check_most
from diffsmooth.cli.plan_options import add_plan_options, build_plan
from diffsmooth.runs.journal import read_journal
from diffsmooth.stats import FixedSampleSize
from diffsmooth.stats.errors import UserError
from diffsmooth.stats.forecast import forecast_votes, queue_load, striped_load
from diffsmooth.stats.printed import digits_up, rounded_down, rounded_up

LEAST_RATE, MOST_RATE = 1e-6, 1e15  # votes a second


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
        pilot = [record.certificate for record in read_journal(path).records]
        plan = build_plan(namespace)
        with option_values("seed"):
            rng = np.random.default_rng(namespace.seed)
        votes = forecast_votes(pilot, plan, namespace.images, rng)
    fixed = FixedSampleSize(namespace.n0, namespace.n, namespace.alpha).max_votes
    low, middle, high = np.ceil(np.percentile(votes, [10, 50, 90]))
    print(
        f"{plan.name}: {math.ceil(votes.mean()):,} votes an image on average (10 % take up to "
        f"{low:,.0f}, half {middle:,.0f}, 90 % {high:,.0f}); fixed: {fixed:,}, "
        f"{rounded_down(fixed / votes.mean(), 1)} times as many"
    )
    print(
        "devices   hours   longest / mean load   (as shards: hours, longest / mean)   fixed: hours"
    )
    for devices in namespace.devices:
        mean = votes.sum() / devices
        queue, striped = queue_load(votes, devices), striped_load(votes, devices)
        whole = -(-namespace.images // devices) * fixed
        second = 3600 * namespace.rate
        print(
            f"{devices:7}   {digits_up(queue / second, 3):>5}   {rounded_up(queue / mean):>19}   "
            f"{digits_up(striped / second, 3):>19}, {rounded_up(striped / mean):>14}   "
            f"{digits_up(whole / second, 3):>12}"
        )
