"""Whether the standard error that `forecast` prints is that of repeated pilots of known shares.

Prints a table for pilots of 100 images, in per cent of the true mean votes of the default plan: the
mean deviation and the root mean square one over 16 pilots, the error by the images' scatter alone,
the whole error that is told, and how many of the pilots deviate by less than two of it. (`python
docs/studies/forecast/errors.py`, ten minutes.)
"""

import numpy as np
from estimators import RNG, SIGMA, TRUTHS, votes_by_share

from diffsmooth.stats import GroupSequential
from diffsmooth.stats.fit_doubt import fit_error
from diffsmooth.stats.pilot import PilotImage, fit_shares

IMAGES, PILOTS, COPIES, PLAYS = 100, 16, 200, 300


def main() -> None:
    plan = GroupSequential()
    votes = votes_by_share(plan, PLAYS)
    print("| pilot N | true shares | off | rms | scatter | told | within two |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for n in (200, 1000):
        for name, draw in TRUTHS.items():
            truth = votes(draw(200_000)).mean()
            found = []
            for _ in range(PILOTS):
                successes = RNG.binomial(n, draw(IMAGES))
                pilot = [PilotImage(n, int(s), 0, (), None) for s in successes]
                model = fit_shares(pilot)
                means = votes(model.draw(pilot, COPIES, RNG)).mean(axis=1)
                scatter = means.std(ddof=1) / IMAGES**0.5
                doubt = fit_error(pilot, model, plan, SIGMA, RNG)
                found.append((means.mean() - truth, scatter, np.hypot(scatter, doubt)))
            off, scatter, told = 100 * np.array(found).T / truth
            print(
                f"| {n:,} | {name} | {off.mean():+.1f} | {np.square(off).mean() ** 0.5:.1f} "
                f"| {scatter.mean():.1f} | {told.mean():.1f} "
                f"| {np.sum(np.abs(off) < 2 * told)} of {PILOTS} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
