"""What a forecast makes of a pilot whose true shares are known: three ways to read its votes.

Prints, for pilots of 500 images, by how much the mean votes an image of the default plan come out
wrong: the mean over 20 pilots, and their standard deviation. (`python
docs/studies/forecast/estimators.py`, half a minute.)
"""

from collections.abc import Callable

import numpy as np
from scipy.special import ndtr, ndtri

from diffsmooth.stats import GroupSequential
from diffsmooth.stats.many_plays import play
from diffsmooth.stats.pilot import PilotImage, fit_shares

SIGMA, IMAGES, PILOTS, COPIES, PLAYS = 0.5, 500, 20, 40, 400
Draw = Callable[[int], np.ndarray]
RNG = np.random.default_rng(0)


def mixture(*parts: tuple[float, Draw]) -> Draw:
    def draw(count: int) -> np.ndarray:
        which = RNG.choice(len(parts), size=count, p=[weight for weight, _ in parts])
        return np.choose(which, [shares(count) for _, shares in parts])

    return draw


def beta(a: float, b: float) -> Draw:
    return lambda count: RNG.beta(a, b, count)


def normal(mean: float, deviation: float) -> Draw:
    """Radii are normal: Phi^-1 of the share is."""
    return lambda count: ndtr(RNG.normal(mean, deviation, count))


def just_below_one(low: float, high: float) -> Draw:
    return lambda count: 1 - 10 ** RNG.uniform(low, high, count)


TRUTHS = {
    "Beta(3, 1.2), Beta(8, 0.6), Beta(40, 0.3)": mixture(
        (0.55, beta(3, 1.2)), (0.3, beta(8, 0.6)), (0.15, beta(40, 0.3))
    ),
    "Phi(N(1, 1.3))": normal(1.0, 1.3),
    "Phi(N(2, 2))": normal(2.0, 2.0),
    "half 1 - 1e-5, half Beta(4, 1)": mixture((0.5, just_below_one(-5, -5)), (0.5, beta(4, 1))),
    "all 1 - 1e-6": just_below_one(-6, -6),
    "Beta(4, 3)": beta(4, 3),
    "0.3 within 5e-3 .. 3e-5 of 1, Beta(3, 1)": mixture(
        (0.3, just_below_one(-4.5, -2.3)), (0.7, beta(3, 1))
    ),
    "all 1 - 1e-4": just_below_one(-4, -4),
    "all within 1e-2 .. 1e-5 of 1": just_below_one(-5, -2),
}


def votes_by_share(plan: GroupSequential, plays: int) -> Callable[[np.ndarray], np.ndarray]:
    """Mean votes as a function of the share, which the truth and its estimates have in common."""
    z = np.concatenate(
        [np.linspace(-6, 0, 40), np.linspace(0.01, 3.6, 300), np.linspace(3.7, 6, 10)]
    )
    shares = np.repeat(ndtr(z)[:, None], plays, axis=1)
    known = play(plan, SIGMA, shares.ravel(), RNG).reshape(shares.shape).mean(axis=1) + plan.n0
    return lambda shares: np.interp(ndtri(shares), z, known)


def main() -> None:
    votes = votes_by_share(GroupSequential(), PLAYS)
    print(f"{'pilot N':8}{'truth':44}{'votes':>7}  {'s / n':>14}{'Jeffreys':>15}{'fitted':>15}")
    for n in (200, 1000, 10_000):
        for name, draw in TRUTHS.items():
            truth = votes(draw(300_000)).mean()
            found = []
            for _ in range(PILOTS):
                successes = RNG.binomial(n, draw(IMAGES))
                pilot = [PilotImage(n, int(s), 0, (), None) for s in successes]
                s = successes[:, None]
                jeffreys = RNG.beta(s + 0.5, n - s + 0.5, (IMAGES, COPIES))
                fitted = fit_shares(pilot).draw(pilot, COPIES, RNG)
                found.append([votes(p).mean() for p in (successes / n, jeffreys, fitted)])
            errors = 100 * (np.array(found) / truth - 1)
            cells = "".join(
                f"{mean:+8.1f} ({spread:3.1f}) %"
                for mean, spread in zip(errors.mean(axis=0), errors.std(axis=0), strict=True)
            )
            print(f"{n:<8,}{name:44}{truth:7,.0f}{cells}", flush=True)


if __name__ == "__main__":
    main()
