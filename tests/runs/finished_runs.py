"""Finished runs of every plan: their files as a run leaves them, their votes drawn at random."""

import dataclasses
from pathlib import Path

import numpy as np
from test_outputs import CONTEXT, IDENTITY

from diffsmooth.runs.names import OutputFiles
from diffsmooth.runs.outputs import Outputs
from diffsmooth.stats import FixedSampleSize, GroupSequential, ImageRecord, MajorityVote, Plan
from diffsmooth.stats.results import Origin

CLASSES = 4
PLANS = {
    "fixed": FixedSampleSize(n0=20, n=200, alpha=0.01),
    "grid": GroupSequential(n0=20, n=300, alpha=0.01, radii=(0.0, 0.25, 0.5)),
    "tolerance": GroupSequential(n0=20, n=300, alpha=0.01, first_look=50, tolerance=0.2),
    "label_aware": GroupSequential(n0=20, n=300, alpha=0.01, radii=(0.1, 0.3), label_aware=True),
    "one_look": GroupSequential(n0=20, n=90, alpha=0.01),
    "majority": MajorityVote(n=40, alpha=0.05),
}


def finish(table: Path, plan: Plan, images: int = 12, void: bool = False) -> OutputFiles:
    """Writes a run of some images, of which one has failed; index is twice the number.

    Args:
        void: whether its noise is exact, and some of its votes void.
    """
    source, sigma = "integer, drawn" if void else "floats, drawn", 0.5
    command = "certify" if plan.certifies else "predict"
    identity = dataclasses.replace(
        IDENTITY,
        command=command,
        plan=str(plan),
        noise_source=source,
        size=2 * images,
        skip=2,
    )
    outputs, rng = Outputs(OutputFiles(table), identity), np.random.default_rng(0)
    outputs.claim(CONTEXT, overwrite=False)
    records = []
    for number in range(images):
        origin = Origin(outputs.digest, source, f"{number:016x}", (3, 32, 32))
        label, share = number % CLASSES, rng.uniform(0.3, 1) if number % 3 else 1.0
        certificate, error = plan.nothing(sigma), "ValueError: no pixels"
        if number != 5:
            chances = np.full(CLASSES, (1 - share) / (CLASSES - 1))
            chances[(label + (number % 7 == 6)) % CLASSES] = share
            run, error = plan.start(sigma, CLASSES, label), ""
            while run.wanted:
                none = int(rng.integers(2)) * void
                run.update(rng.multinomial(run.wanted - none, chances), none)
            certificate = run.certificate
        records.append(
            ImageRecord(2 * number, label, rng.uniform(0, 9), certificate, error, origin)
        )
    outputs.finish(records)
    return outputs.files
