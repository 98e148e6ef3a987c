"""Verdicts on finished runs: whether what is written follows from the votes."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from diffsmooth.pipeline.run_recheck import Fault, recheck_run
from diffsmooth.pipeline.verify_specification import VerifyOptions
from diffsmooth.runs.identity import RunIdentity
from diffsmooth.runs.journal import read_journal
from diffsmooth.runs.names import RunFiles, is_there
from diffsmooth.shown_text import shown
from diffsmooth.stats.errors import UserError
from diffsmooth.stats.printed import counted

FAULTS_SHOWN = 20
MANIFEST = ".manifest.json"
STATED = ("n", "n0", "alpha", "sigma", "classes")


class Verdict(NamedTuple):
    """What is said of a run.

    Attributes:
        holds: whether all was found right.
        line: it in one line.
        details: what was found wrong, one line each.
    """

    holds: bool
    line: str
    details: tuple[str, ...] = ()

    def __str__(self) -> str:
        told = self.details[:FAULTS_SHOWN]
        left = len(self.details) - len(told)
        more = [f"and {left} more"] if left else []
        return "\n  ".join([self.line, *told, *more])


def verify(options: VerifyOptions) -> Iterator[Verdict]:
    """The verdict on each run, one after another.

    Raises:
        UserError: a user's mistake.
    """
    runs = [(run, _files_of(run)) for run in options.runs]
    anothers = [_is_anothers(run, files) for run, files in runs]
    if any(anothers) and options.replay is not None:
        raise UserError("replay needs the journal of each run")
    if not any(anothers):
        for name in STATED:
            if getattr(options, name) is not None:
                raise UserError(f"{name} is of tables without a journal, which tells it itself")
    for (run, files), is_anothers in zip(runs, anothers, strict=True):
        if is_anothers:
            from diffsmooth.pipeline.table_check import check_table  # only now: pandas

            verdict, text, lines = check_table(Path(run), options)
            yield Verdict(verdict == "consistent", f"{shown(run)}: {verdict}: {text}", lines)
        else:
            yield _verdict(run, files, options)


def _is_anothers(run: str, files: RunFiles) -> bool:
    """Whether it is a table alone, without a journal or a manifest."""
    return (
        is_there(Path(run))
        and Path(run) != files.journal
        and not (is_there(files.journal) or is_there(files.manifest))
    )


def _files_of(run: str) -> RunFiles:
    """The files of a run that is named by one of them, or by OUT."""
    path = Path(run.removesuffix(MANIFEST))
    files = RunFiles.beside(path)
    if not any(map(is_there, (path, files.journal, files.manifest))):
        raise UserError(f"{run}: no such file")
    return files


def _verdict(run: str, files: RunFiles, options: VerifyOptions) -> Verdict:
    found, name = recheck_run(files), shown(run)
    faults, said = list(found.faults), [""]
    if not faults:
        failed = sum(bool(fields["error"]) for _, fields in found.records)
        predicts = any(fields["plan"] == "majority" for _, fields in found.records)
        what = "answer" if predicts else "bound and radius"
        said = [f"{counted(len(found.records), 'image')}, each {what} computed again"]
        said += [f"{failed} failed"] if failed else []
        said += ["no manifest says which images the run was to have"] if not found.manifest else []
        if options.replay is not None:
            if found.manifest is None:
                raise UserError(f"{files.manifest}: no such file, and without it no vote is drawn")
            if RunIdentity.from_stored(found.manifest.identity).is_from_python:
                raise UserError(
                    f"{name}: was certified from Python, not by the command, and does not say how "
                    "its networks were made: its votes cannot be cast again"
                )
            from diffsmooth.pipeline.replay import replay  # only now: torch takes seconds

            replayed = replay(found.manifest, read_journal(files.journal), options)
            said.append(replayed.text)
            faults = [Fault(files.journal.name, 0, *one) for one in replayed.faults]
    if not faults:
        return Verdict(True, f"{name}: the table follows from the votes: {'; '.join(said)}")
    count = f"{len(faults)} fault{'s' * (len(faults) > 1)}"
    line = f"{name}: the table does NOT follow from the votes: {count}"
    return Verdict(False, "; ".join(filter(None, [line, *said])), tuple(map(str, faults)))
