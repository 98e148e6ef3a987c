"""Runs a job and says what came out: the common part of `certify` and `predict`."""

from diffsmooth.cli.errors import fail, show_error, user_errors
from diffsmooth.lit.certification.ranks import LostRank
from diffsmooth.lit.stopping import TRY_AGAIN
from diffsmooth.pipeline.job import Job
from diffsmooth.pipeline.running import run_job
from diffsmooth.stats import ImageRecord

FAILED = 1


def run(job: Job, command: str) -> list[ImageRecord] | None:
    """`run_job`, whose errors become exit codes: the rank that fails first says why."""
    with user_errors(command):
        try:
            return run_job(job, command)
        except LostRank as error:
            if error.told is not None:
                raise SystemExit(error.told) from None
            fail(command, str(error), TRY_AGAIN)


def shard_text(job: Job, records: list[ImageRecord]) -> str:
    """What a shard says at its end."""
    shard = job.run_keeper.outputs.shard
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
