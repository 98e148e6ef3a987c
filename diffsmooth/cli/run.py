"""Runs a job and says what came out: the common part of `certify` and `predict`."""

import sys

from diffsmooth.cli.errors import USER_ERROR, show_error
from diffsmooth.cli.job import Job
from diffsmooth.lit.certification import CertificationError
from diffsmooth.lit.data.images import DataError
from diffsmooth.lit.gather import GatherError, LostRank
from diffsmooth.lit.journal import JournalError
from diffsmooth.lit.outputs import OutputError
from diffsmooth.lit.stopping import TRY_AGAIN
from diffsmooth.models.vote_function import NetworkError
from diffsmooth.stats import ImageRecord
from diffsmooth.stats.errors import UserError

FAILED = 1
ERRORS = (
    CertificationError, DataError, GatherError, JournalError, NetworkError, OutputError, OSError,
    UserError,
)  # fmt: skip


def run_job(job: Job, command: str, columns: tuple[str, ...]) -> list[ImageRecord] | None:
    """Runs all images that are not done yet and writes the table, unless this is but a shard.

    Returns:
        All records on rank zero, by ascending index; None on the other ranks.
    """
    module, trainer = job.module, job.trainer
    try:
        trainer.predict(module, return_predictions=False)
        records = module.gather()
        if records is not None:
            if module.outputs.shard is None:
                module.outputs.finish(records, columns)
            module.outputs.release()
        return records
    except ERRORS as error:
        # Only rank zero fails: a launcher that sees another rank fail kills rank zero, which would
        # then say nothing.
        if trainer.global_rank == 0:
            show_error(command, str(error))
            raise SystemExit(TRY_AGAIN if isinstance(error, LostRank) else USER_ERROR) from error
        show_error(f"{command} (rank {trainer.global_rank})", str(error))
        raise SystemExit(0) from error
    except SystemExit as stopped:
        if trainer.global_rank == 0:
            print(f"\n{command}: stopped; the same command goes on from here", file=sys.stderr)
        # Lightning ends with 1 after Ctrl-C; shells expect 128 + SIGINT.
        interrupted = trainer.interrupted and stopped.code == 1
        raise SystemExit(130 if interrupted else stopped.code) from None


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
