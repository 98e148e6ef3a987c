"""Runs a job and says what came out: the common part of `certify` and `predict`."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from typing import TextIO

from diffsmooth.cli.errors import fail, make_room, show_error, user_errors
from diffsmooth.lit.certification.ranks import LostRank
from diffsmooth.lit.stopping import FAILED, TRY_AGAIN
from diffsmooth.pipeline.identity import Command
from diffsmooth.pipeline.job import Job, Work, build_job, run_job
from diffsmooth.pipeline.merge import ATTACK_MERGES
from diffsmooth.pipeline.publish import Say
from diffsmooth.pipeline.specification import ProcessOptions, SmoothingOptions
from diffsmooth.report.attacks import try_name
from diffsmooth.report.closing import Closing
from diffsmooth.shown_text import shell_line
from diffsmooth.stats import ImageRecord, MajorityVote, Plan
from diffsmooth.terminal import for_terminal


def run(
    options: SmoothingOptions,
    command: Command,
    plan: Plan,
    prog: str,
    publish: Callable[[Job, list[ImageRecord], Say], object],
    work: Work | None = None,
) -> None:
    """Runs what the options ask for; errors become exit codes: the rank that fails first says why.

    Args:
        options, command, plan, work: see `build_job`.
        prog: what messages begin with.
        publish: shows what came out of a whole run, on rank zero; tells the third of its arguments
            the closing table.
    """
    with user_errors(prog), hushed(options) as say:
        job = build_job(options, command, plan, work)
        try:
            records = run_job(job, prog)
        except LostRank as error:
            if error.told is not None:
                raise SystemExit(error.told) from None
            fail(prog, str(error), TRY_AGAIN)
        if records is None:
            return
        shard = options.own_shard
        if shard is None:
            make_room()
            publish(job, records, say)
        else:
            is_attack = command == "attack"
            merge = shell_line("diffsmooth", "merge", job.files.table)
            what, then = ("tries", ATTACK_MERGES) if is_attack else ("images", merge)
            print(
                f"shard {shard.number}/{shard.total}: its {len(records)} {what} are done; when all "
                f"shards are: {then}"
            )
    report_failures(prog, records)


@contextmanager
def hushed(options: ProcessOptions) -> Iterator[Say]:
    """Within, what is printed goes where --quiet and --json want it; gives what says the rest.

    What a dry run says is its result.
    """
    out = sys.stdout
    with ExitStack() as stack:
        if options.quiet and not options.dry_run:  # which says nothing else
            elsewhere: TextIO = stack.enter_context(open(os.devnull, "w"))
        else:
            elsewhere = sys.stderr if options.json else out
        stack.enter_context(redirect_stdout(elsewhere))

        def say(closing: Closing) -> None:
            text = closing.as_json() if options.json else for_terminal(closing.text)
            print(text, file=out, flush=True)

        yield say


def report_failures(
    command: str, records: list[ImageRecord], again: str = "the same command"
) -> None:
    """Names the images that raised, and exits with 1 if there are any; `again` tries them again."""
    failed = [record for record in records if record.error]
    if not failed:
        return
    for record in failed[:10]:
        attack, which = record.attack, f"image {record.index}"
        if attack is not None:
            which = f"image {attack.image}, {try_name(attack)},"
        show_error(command, f"{which} failed: {record.error}")
    certificate = failed[0].certificate
    what, count = "images", "count as not certified"
    if failed[0].attack is not None:
        what, count = "tries", "count for nothing"
    elif certificate.plan == MajorityVote.name:
        count = "have no prediction"
    line = f"{len(failed)} of {len(records)} {what} failed and {count}"
    show_error(command, f"{line}; {again} tries them again")
    raise SystemExit(FAILED)
