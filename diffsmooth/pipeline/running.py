"""Runs a job: all ranks together, and the first that fails ends them all."""

from diffsmooth.lit.certification.ranks import LostRank
from diffsmooth.lit.launching import Launcher
from diffsmooth.models.smoothing.memory import memory_for
from diffsmooth.pipeline.job import Job
from diffsmooth.stats import ImageRecord


def run_job(job: Job, command: str = "") -> list[ImageRecord] | None:
    """Runs all images that are not done yet and writes the table, unless this is but a shard.

    Args:
        command: as it is said before what is said of a lost rank.

    Returns:
        All records on rank zero, by ascending index; None on the other ranks.

    Raises:
        LostRank: another rank has ended; `told` is the exit code if that one has said why.
    """
    launcher = job.trainer.strategy.launcher
    started = launcher if isinstance(launcher, Launcher) else None
    if started is not None:
        started.command = command
    try:
        with memory_for(job.module.f.batch):  # networks go to their device here
            job.trainer.predict(job.module, return_predictions=False)
    except BaseException as error:
        if started is not None:
            if isinstance(error, LostRank):
                error.told = started.told()
            started.end()
        raise
    if started is not None:
        started.release()  # what happens to the others does no harm any more
    return job.run_keeper.records
