"""Runs a job and shows what came out: the common part of `certify` and `predict`."""

import signal
import sys
from types import FrameType

import torch

from diffsmooth.cli.errors import fail
from diffsmooth.cli.job import Job
from diffsmooth.lit.certification import CertificationModule
from diffsmooth.lit.outputs import OutputError
from diffsmooth.models.noise import NoiseStream
from diffsmooth.report.tensorboard import ImageTriple
from diffsmooth.stats import ImageRecord

SHOWN_IMAGES = 4


def run_job(
    job: Job, command: str, columns: tuple[str, ...], overwrite: bool
) -> list[ImageRecord] | None:
    """Runs all images that are not done yet and writes the table.

    Returns:
        All records on rank zero, by ascending index; None on the other ranks.
    """
    module, trainer, outputs, context = job

    def stop(signal_number: int, frame: FrameType | None) -> None:
        module.stop_requested = True

    signal.signal(signal.SIGTERM, stop)
    try:
        if trainer.global_rank == 0:
            outputs.prepare(module.identity, context, overwrite)
        trainer.predict(module, return_predictions=False)
    except OutputError as error:
        fail(command, str(error))
    except SystemExit as stopped:
        if trainer.global_rank == 0:
            print(f"\n{command}: stopped; the same command goes on from here", file=sys.stderr)
        # Lightning ends with 1 after Ctrl-C; shells expect 128 + SIGINT.
        raise SystemExit(
            130 if trainer.interrupted and stopped.code == 1 else stopped.code
        ) from None
    records = module.gather()
    if records is not None:
        outputs.finish(records, columns)
    return records


def show_images(module: CertificationModule, records: list[ImageRecord]) -> list[ImageTriple]:
    """The first few images: original, with the noise of their first vote, and purified."""
    smoothed = module.smoothed
    triples = []
    for record in records[:SHOWN_IMAGES]:
        image = module.images[record.index].image
        stream = NoiseStream(module.noise_key(record.index), 0, tuple(image.shape))
        noise = stream.take(1).to(smoothed.device)
        with torch.inference_mode():
            noisy = smoothed.add_noise(image.to(smoothed.device), noise)
            purified = smoothed.purify(noisy)
        pictures = (image, noisy[0], purified[0])
        triples.append(ImageTriple(record.index, *(p.float().cpu().numpy() for p in pictures)))
    return triples
