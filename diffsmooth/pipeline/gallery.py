"""The pixels that a finished run keeps of a few of its images."""

from collections.abc import Sequence

import numpy as np
import torch

from diffsmooth.lit.data.images import evenly_spaced
from diffsmooth.models.smoothing.noise import Votes, draw_run
from diffsmooth.models.smoothing.noise_sources import noise_source
from diffsmooth.pipeline.job import Job
from diffsmooth.runs.gallery import GalleryImage, to_bytes
from diffsmooth.stats import ABSTAIN, ImageRecord

MOST_IMAGES, FEWEST_IMAGES = 24, 4
MOST_BYTES = 8 * 2**20  # of all pixels; large images are fewer


def choose_images(records: Sequence[ImageRecord], count: int) -> list[int]:
    """Indices, ascending, of correct, wrong and abstained images, as many of each as can be.

    The correct and the wrong ones are spread evenly over the order of their radii.
    """
    ordered = sorted(records, key=lambda record: record.certificate.radius)
    tried = [record for record in ordered if not record.error]
    groups = [
        [record.index for record in tried if record.certificate.prediction == ABSTAIN],
        [r.index for r in tried if r.certificate.prediction != ABSTAIN and not r.correct],
        [record.index for record in tried if record.correct],
    ]
    shares = [0] * len(groups)
    for _ in range(min(count, len(tried))):
        open_groups = [i for i, group in enumerate(groups) if shares[i] < len(group)]
        shares[min(open_groups, key=lambda i: shares[i])] += 1
    chosen = [
        group[place]
        for group, share in zip(groups, shares, strict=True)
        for place in evenly_spaced(len(group), share)
    ]
    return sorted(chosen)


@torch.inference_mode()
def gallery_of(job: Job, records: Sequence[ImageRecord]) -> list[GalleryImage]:
    """A few images of rank zero's finished run under their first vote's noise, purified, copied."""
    module, device = job.module, job.trainer.strategy.root_device
    f, images = module.f.to(device), module.images  # Lightning took it off
    local = f.local_smoothing
    has_copies = local.m > 1 or local.sigma_local > 0
    pixels = int(np.prod(images.info.image_shape)) * (3 + (local.m if has_copies else 0))
    count = max(FEWEST_IMAGES, min(MOST_IMAGES, MOST_BYTES // pixels))
    source, batch = noise_source(module.noise, device), f.batch
    chosen, gallery = choose_images(records, count), []
    for start in range(0, len(chosen), batch):
        some = chosen[start : start + batch]
        originals = [images[index].image for index in some]
        votes = [Votes(module.noise_key(index), 0, 0, 1) for index in some]
        # Of the forward shape that the networks are compiled for.
        noisy = source.noisy(votes, originals, f.noise_level, batch).images.to(device)
        draws = draw_run(source, votes, f.purifier.draws, 0, batch, f.image_shape)
        purified = f.purify(noisy, None if draws is None else draws.to(device))
        copies = purified[:, None] + local.sigma_local * local.noise  # (B, m, C, H, W)
        if not has_copies:
            copies = copies[:, :0]
        gallery += [
            GalleryImage(index, *(to_bytes(part.float().cpu().numpy()) for part in parts))
            for index, *parts in zip(some, originals, noisy, purified, copies, strict=False)
        ]
    return gallery
