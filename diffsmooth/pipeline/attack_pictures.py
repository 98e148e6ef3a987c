"""Pictures of a few attacked images: those whose prediction changed, by the smallest try."""

import math
from collections.abc import Sequence

import numpy as np
import torch

from diffsmooth.lit.data.images import evenly_spaced
from diffsmooth.pipeline.attack import AttackWork
from diffsmooth.pipeline.job import Job
from diffsmooth.runs.attacked import AttackPicture
from diffsmooth.runs.gallery import to_bytes
from diffsmooth.stats import ABSTAIN, ImageRecord

MOST_PICTURES = 8


def choose_tries(records: Sequence[ImageRecord], count: int) -> list[int]:
    """Tries to show: of images that flipped the smallest, or else any, evenly spaced by norm."""
    smallest: dict[int, tuple[bool, float, int]] = {}
    for record in records:
        attack = record.attack
        if attack is None or record.error or not attack.method:
            continue
        left = record.label if attack.certified == ABSTAIN else attack.certified
        flipped = record.certificate.prediction not in (ABSTAIN, left)
        one = (not flipped, attack.norm, record.index)
        smallest[attack.image] = min(one, smallest.get(attack.image, (True, math.inf, 0)))
    ordered = sorted(smallest.values())
    flipped_ones = [one for one in ordered if not one[0]] or ordered
    return [flipped_ones[place][2] for place in evenly_spaced(len(flipped_ones), count)]


def pictures_of(job: Job, work: AttackWork, records: Sequence[ImageRecord]) -> list[AttackPicture]:
    """The attacks on a few images again, on rank zero of a finished run."""
    chosen = choose_tries(records, MOST_PICTURES)
    if chosen:
        work.make_ready(job)
    pictures = []
    for item in chosen:
        with torch.inference_mode(False):
            attacked = work.images[item].image.numpy()
        original = work.images.images[work.images.attack_of(item).image].image.numpy()
        moved = attacked - original
        largest = float(np.abs(moved).max())
        scale = 0.5 / largest if largest else 1.0
        shown = [original, 0.5 + scale * moved, attacked]
        pictures.append(AttackPicture(item, scale, *map(to_bytes, shown)))
    return pictures
