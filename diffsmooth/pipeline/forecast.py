"""Votes, hours and load of a run to come, from a small one."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np

from diffsmooth.pipeline.command_specification import ForecastOptions
from diffsmooth.runs.journal import read_journal
from diffsmooth.runs.names import JOURNAL, RunFiles
from diffsmooth.stats.errors import UserError, option_values
from diffsmooth.stats.forecast import Estimate, forecast_average, forecast_votes, simulate_loads
from diffsmooth.stats.pilot import Unresolved, pilot_images, unresolved
from diffsmooth.stats.plans import Plan
from diffsmooth.stats.printed import digits_up, radius_label, rounded_down, rounded_up

IMAGES_TO_SIMULATE = 1_000_000  # in all runs, which take a second
LEAST_RUNS, MOST_RUNS = 10, 1000
GRID_PLAN = "group_sequential"


def forecast(options: ForecastOptions, plan: Plan) -> tuple[str, str]:
    """What is said of a run to come, and what its pilot does not tell ("" if it tells all).

    Raises:
        UserError: no journal, or of several sigmas.
    """
    path = Path(options.pilot)
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    if path.suffix != JOURNAL:
        path = RunFiles.beside(path).journal
        if not path.is_file():
            raise UserError(f"{options.pilot}: has no journal beside it, and a table has no votes")
    records = read_journal(path).records
    if any(record.attack for record in records):
        raise UserError(f"{path}: is of attacks on a run: the pilot is a run of `certify`")
    certificates = [record.certificate for record in records]
    labels = [one.label if one.label is not None and one.label >= 0 else None for one in records]
    pilot = pilot_images(certificates, labels)
    if len({certificate.sigma for certificate in certificates}) > 1:
        raise UserError(f"{path}: of several sigmas, which are not one run")
    sigma, grid = certificates[0].sigma, certificates[0].grid
    said = ""
    if grid and plan.name == GRID_PLAN and options.radii is None and options.tolerance is None:
        radii = list(grid)
        plan = replace(options, radii=radii).build_plan(options.n, options.alpha)
        said = f"radii {' '.join(map(radius_label, radii))}, as the pilot's\n"
    with option_values("seed"):
        rng = np.random.default_rng(options.seed)
    votes = forecast_votes(pilot, plan, sigma, rng)
    average = forecast_average(votes, pilot, plan, sigma, rng)
    fixed = options.n0 + options.n  # votes an image of the plan that it is compared with
    text = said + _votes_text(votes, average, plan, fixed)
    text += "\n" + _loads_text(votes, average, options, fixed, rng)
    short = unresolved(pilot, plan, sigma)
    return text, _warning(short, len(pilot)) if short else ""


def _votes_text(votes: np.ndarray, average: Estimate, plan: Plan, fixed: int) -> str:
    low, middle, high = np.ceil(np.percentile(votes, [10, 50, 90]))
    return (
        f"{plan.name}: {math.ceil(average.mean):,} {_plus_minus(average)} votes an image on "
        f"average (10 % take up to {low:,.0f}, half {middle:,.0f}, 90 % {high:,.0f}); fixed: "
        f"{fixed:,}, {rounded_down(fixed / average.mean, 1)} times as many\n"
        f"(+- is the standard error, by {len(votes):,} images of the pilot and by what their votes "
        f"leave open; each played {votes.shape[1]:,} times)"
    )


def _plus_minus(average: Estimate) -> str:
    return "+- ?" if math.isinf(average.error) else f"+- {math.ceil(average.error):,}"


def _loads_text(
    votes: np.ndarray,
    average: Estimate,
    options: ForecastOptions,
    fixed: int,
    rng: np.random.Generator,
) -> str:
    images, second = options.images, 3600 * options.rate
    repetitions = min(max(IMAGES_TO_SIMULATE // images, LEAST_RUNS), MOST_RUNS)
    lines = [
        f"{'':9} {'queue':33}{'shards':33}fixed",
        "devices  " + 2 * f" {'hours':18}{'longest / mean':15}" + "hours",
    ]
    runs = simulate_loads(votes, images, options.devices, repetitions, rng)
    for devices, loads in zip(options.devices, runs, strict=True):
        cells = ""
        for longest in (loads.queue, loads.striped):
            hours, ratio = longest / second, longest / loads.mean
            of_hours = f"{digits_up(_mean(hours), 3)} +- {digits_up(_spread(hours), 2)}"
            of_ratio = f"{rounded_up(_mean(ratio))} +- {rounded_up(_spread(ratio))}"
            cells += f" {of_hours:17} {of_ratio:15}"
        whole = -(-images // devices) * fixed
        lines.append(f"{devices:7}  {cells}{digits_up(whole / second, 3)}")
    pilot = "by an amount not known"
    if math.isfinite(average.error):
        pilot = f"{rounded_up(100 * average.error / average.mean, 1)} %, together"
    lines.append(
        f"(means of {repetitions:,} simulated runs of {images:,} images, +- the standard deviation "
        f"of one run; the pilot's error shifts all hours, but fixed, {pilot})"
    )
    return "\n".join(lines)


def _mean(values: np.ndarray) -> float:
    return float(values.mean() if np.ptp(values) else values[0])  # without rounding errors


def _spread(values: np.ndarray) -> float:
    return float(values.std()) if np.ptp(values) else 0.0


def _warning(short: Unresolved, images: int) -> str:
    radius, known = (radius_label(r, most=3) for r in (short.radius, short.known))
    wanted = "no pilot" if math.isinf(short.n) else f"a pilot of N = {short.n:,} or more"
    return (
        f"radius {radius} is beyond what this pilot tells: {short.images:,} of "
        f"its {images:,} images had all votes for one class, and so few votes know nothing above "
        f"radius {known}. What these images cost is guessed from the others; {wanted} would tell"
    )
