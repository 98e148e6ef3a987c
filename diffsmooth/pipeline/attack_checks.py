"""Whether what attacks found contradicts certificates: fresh votes decide, at a level of theirs."""

import torch

from diffsmooth.models.smoothing.noise import NoiseKey
from diffsmooth.models.smoothing.one_image import run_plan
from diffsmooth.pipeline.attack import AttackWork
from diffsmooth.pipeline.job import Job
from diffsmooth.runs.flips import CheckedFlip, Outcome, write_flips
from diffsmooth.stats import (
    ABSTAIN,
    Certificate,
    FixedSampleSize,
    ImageRecord,
    MajorityVote,
)
from diffsmooth.stats.empirical import checking_level, is_suspect


def check_suspects(job: Job, work: AttackWork, records: list[ImageRecord]) -> list[CheckedFlip]:
    """Attacks and votes on suspects again, on rank zero of a finished run; saves them all.

    PREDICT of the attacked image and CERTIFY of the image as it is, each of `check_n` votes that
    nothing has seen, at `checking_level`: over the whole run, a contradiction is found where there
    is none with chance 1e-6 at most.
    """
    suspects = [record for record in records if is_suspect(record)]
    flips = [_check(job, work, record, len(records)) for record in suspects]
    if flips:
        write_flips(job.files.checks, flips)
    else:
        job.files.checks.unlink(missing_ok=True)
    return flips


@torch.no_grad()
def _check(job: Job, work: AttackWork, record: ImageRecord, tries: int) -> CheckedFlip:
    module, device = job.module, job.trainer.strategy.root_device
    f = work.make_ready(job)
    image = work.images.images[work.images.attack_of(record.index).image].image
    attacked = work.images[record.index].image
    attack = work.images.attack_of(record.index)
    level = checking_level(tries, work.how.restarts)
    key = NoiseKey(module.seed, "confirm", module.images.info.name, module.split, record.index)
    n, n0 = work.options.check_n, work.attacked.plan.n0
    predicted = run_plan(f, attacked, key, MajorityVote(n, level), noise=work.source(device))
    source = work.certifying_source(device)
    key = key._replace(split=f"{module.split}, as it is")
    fresh = run_plan(f, image, key, FixedSampleSize(n0, n, level), noise=source)
    return CheckedFlip(
        image=attack.image,
        item=record.index,
        outcome=outcome_of(attack.certified, attack.norm, predicted, fresh),
        certified=attack.certified,
        radius=attack.radius,
        norm=attack.norm,
        prediction=predicted.prediction,
        fresh_class=fresh.prediction,
        fresh_radius=fresh.radius,
        original=image.numpy(),
        attacked=attacked.numpy(),
    )


def outcome_of(certified: int, norm: float, predicted: Certificate, fresh: Certificate) -> Outcome:
    """What fresh votes say of a suspect.

    Args:
        certified: class that the attacked run certified.
        norm: distance of the attacked image, rounded up.
        predicted: PREDICT of the attacked image.
        fresh: CERTIFY of the image as it is.
    """
    if predicted.prediction in (ABSTAIN, certified):
        return "prediction not confirmed"
    holds = fresh.prediction not in (ABSTAIN, predicted.prediction) and fresh.radius > norm
    return "contradiction" if holds else "certificate not confirmed"
