"""What a finished run of attacks says: its tables, its checks, its pictures."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diffsmooth.pipeline.attack import AttackWork
from diffsmooth.pipeline.attack_checks import check_suspects
from diffsmooth.pipeline.attack_pictures import pictures_of
from diffsmooth.pipeline.job import Job
from diffsmooth.pipeline.publish import Say, files_record, relative_name
from diffsmooth.report.attacks import flip_remarks, sections_of
from diffsmooth.report.closing import Closing
from diffsmooth.report.radii import usual_radii
from diffsmooth.report.tensorboard import write_attacks
from diffsmooth.report.writers import Section, as_text
from diffsmooth.runs.attacked import read_attacks, write_pictures
from diffsmooth.runs.flips import CheckedFlip
from diffsmooth.runs.names import OutputFiles
from diffsmooth.shown_text import shell_line, shown
from diffsmooth.stats import ABSTAIN, ImageRecord
from diffsmooth.stats.empirical import (
    LEVEL,
    UNCONFIRMED_LEVEL,
    Empirical,
    unconfirmed_pvalue,
)
from diffsmooth.stats.printed import digits_up, exact
from diffsmooth.whole_file import write_whole


def publish_attack(job: Job, work: AttackWork, records: list[ImageRecord], say: Say) -> list[str]:
    """Checks suspects, and tells `say` what came out.

    Returns:
        What contradicts the certificates, one line each.
    """
    found = Empirical.from_records(records)
    flips = check_suspects(job, work, records)
    run = work.attacked.run
    sections = sections_of(found, records, run, usual_radii([run]))
    remarks = [*flip_remarks(found, records), *(flip.text for flip in flips)]
    certificates = int((found.certified != ABSTAIN).sum())
    said, problems = verdict(flips, certificates, work.attacked.plan.alpha)
    files = job.files
    pictures = [] if os.path.lexists(files.images) else pictures_of(job, work, records)
    if pictures:
        write_pictures(files.images, pictures)
    write_whole(files.flips, found.flips_tsv().encode())
    text = as_text(sections, [*remarks, *said])
    say(Closing(text.rstrip("\n"), attack_record(found, sections, problems, files)))
    if len(found):
        events = Path(work.options.logdir) / "attack" / relative_name(files.stem)
        write_attacks(events, read_attacks(files.journal), text)
    page = shell_line(
        "diffsmooth", "report", work.options.run, "--attacks", files.journal,
        "--html", f"{files.stem}.html",
    )  # fmt: skip
    print(
        f"table {shown(files.table)}, journal {shown(files.journal)}, smallest flip of each image "
        f"{shown(files.flips)}\n"
        f"a page of all: {page}"
    )
    if flips:
        print(f"images that fresh votes were asked about: {shown(files.checks)}")
    return problems


def attack_record(
    found: Empirical, sections: Sequence[Section], problems: list[str], files: OutputFiles
) -> dict[str, Any]:
    """For programs: the tables as they are printed, and what contradicts the certificates."""
    tables = [
        {"title": one.title, "rows": one.text.reset_index().to_dict("records")} for one in sections
    ]
    record = {"images": len(found), "tables": tables, "problems": problems}
    return {**record, **files_record(files)}


def verdict(
    flips: Sequence[CheckedFlip], certificates: int, alpha: float
) -> tuple[list[str], list[str]]:
    """What is said of so many attacked certificates, and what is wrong with them, in lines."""
    contradictions = [flip for flip in flips if flip.outcome == "contradiction"]
    unconfirmed = {f.image for f in flips if f.outcome == "certificate not confirmed"}
    pvalue = unconfirmed_pvalue(len(unconfirmed), certificates, alpha)
    said = [
        f"{len(contradictions)} contradictions (by fresh votes; chance of any by mistake "
        f"{LEVEL:g}); {len(unconfirmed)} of {certificates} certificates not confirmed by a fresh "
        f"run: chance of as many, if each is false with alpha {exact(alpha)}: "
        f"{digits_up(pvalue, 2)}"
    ]
    problems = [flip.text for flip in contradictions]
    if pvalue < UNCONFIRMED_LEVEL:
        problems.append(
            f"{len(unconfirmed)} of {certificates} certificates do not hold, which alpha "
            f"{exact(alpha)} does not explain (p = {digits_up(pvalue, 2)})"
        )
    return said, problems
