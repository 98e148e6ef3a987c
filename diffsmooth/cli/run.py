"""Runs a job and says what came out: the common part of `certify` and `predict`."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from diffsmooth.cli.errors import fail, show_error, user_errors
from diffsmooth.lit.gather import LostRank
from diffsmooth.lit.launching import Launcher
from diffsmooth.lit.stopping import TRY_AGAIN
from diffsmooth.models.smoothing.memory import memory_for
from diffsmooth.pipeline.job import Job
from diffsmooth.stats import ImageRecord
from diffsmooth.stats.errors import UserError

FAILED = 1


def run_job(job: Job, command: str, columns: tuple[str, ...]) -> list[ImageRecord] | None:
    """Runs all images that are not done yet and writes the table, unless this is but a shard.

    Returns:
        All records on rank zero, by ascending index; None on the other ranks.
    """
    module, trainer = job.module, job.trainer
    with _ranks(trainer.strategy.launcher, command):
        with memory_for(module.smoothed.f.batch):  # networks go to their device here
            trainer.predict(module, return_predictions=False)
        records = module.gather()
    if records is not None and module.outputs.shard is None:
        with user_errors(command):
            module.outputs.finish(records, columns)
    module.outputs.release()
    return records


@contextmanager
def _ranks(launcher: object, command: str) -> Iterator[None]:
    """What all ranks do together: the first that fails says why, and all end with it."""
    started = launcher if isinstance(launcher, Launcher) else None
    if started is not None:
        started.command = command
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    except BaseException as error:
        told = None
        if started is not None:
            told = started.told() if isinstance(error, LostRank) else None
            started.end()
        if told is not None:
            raise SystemExit(told) from None
        if isinstance(error, LostRank):
            fail(command, str(error), TRY_AGAIN)
        if isinstance(error, UserError | OSError):
            with user_errors(command):
                raise
        raise
    if started is not None:
        started.release()  # what happens to the others does no harm any more
    signal.signal(signal.SIGTERM, before)  # the end of no batch is waited for any more


def shard_text(job: Job, records: list[ImageRecord]) -> str:
    """What a shard says at its end."""
    shard = job.module.outputs.shard
    assert shard is not None
    return (
        f"shard {shard.number}/{shard.total}: its {len(records)} images are done; when all shards "
        f"are: diffsmooth merge {job.files.table}"
    )


def report_failures(
    command: str, records: list[ImageRecord], again: str = "the same command"
) -> None:
    """Names the images that raised, and exits with 1 if there are any; `again` tries them again."""
    failed = [record for record in records if record.error]
    if not failed:
        return
    for record in failed[:10]:
        show_error(command, f"image {record.index} failed: {record.error}")
    show_error(
        command,
        f"{len(failed)} of {len(records)} images failed and count as not certified; "
        f"{again} tries them again",
    )
    raise SystemExit(FAILED)
