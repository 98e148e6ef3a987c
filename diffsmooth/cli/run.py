"""Runs a job and shows what came out: the common part of `certify` and `predict`."""

import sys

import torch

from diffsmooth.cli.errors import fail
from diffsmooth.cli.job import Job
from diffsmooth.lit.certification import CertificationModule
from diffsmooth.lit.data.images import DataError
from diffsmooth.lit.gather import GatherError
from diffsmooth.lit.outputs import OutputError
from diffsmooth.models.smoothed_classifier import NetworkError
from diffsmooth.report.tensorboard import ImageTriple
from diffsmooth.stats import ImageRecord

SHOWN_IMAGES = 4


def run_job(job: Job, command: str, columns: tuple[str, ...]) -> list[ImageRecord] | None:
    """Runs all images that are not done yet and writes the table.

    Returns:
        All records on rank zero, by ascending index; None on the other ranks.
    """
    module, trainer = job.module, job.trainer
    try:
        trainer.predict(module, return_predictions=False)
        records = module.gather()
        if records is not None:
            module.outputs.finish(records, columns)
        return records
    except (OutputError, DataError, GatherError, NetworkError, OSError) as error:
        # Only rank zero fails: a launcher that sees another rank fail kills rank zero, which would
        # then say nothing.
        if trainer.global_rank == 0:
            fail(command, str(error))
        raise SystemExit(0) from error
    except SystemExit as stopped:
        if trainer.global_rank == 0:
            print(f"\n{command}: stopped; the same command goes on from here", file=sys.stderr)
        # Lightning ends with 1 after Ctrl-C; shells expect 128 + SIGINT.
        interrupted = trainer.interrupted and stopped.code == 1
        raise SystemExit(130 if interrupted else stopped.code) from None


def show_images(module: CertificationModule, records: list[ImageRecord]) -> list[ImageTriple]:
    """The first few images: original, with the noise of their first vote, and purified."""
    smoothed = module.smoothed
    triples = []
    for record in records[:SHOWN_IMAGES]:
        image = module.images[record.index].image
        key, device = module.noise_key(record.index), smoothed.device
        votes = smoothed.vote_noise(key, 0, tuple(image.shape))
        own, draws = votes.take(1), votes.draws_of(0)
        with torch.inference_mode():
            noisy = smoothed.add_noise(image.to(device), own.to(device))
            purified = smoothed.purify(noisy, None if draws is None else draws.to(device))
        pictures = (image, noisy[0], purified[0])
        triples.append(ImageTriple(record.index, *(p.float().cpu().numpy() for p in pictures)))
    return triples
