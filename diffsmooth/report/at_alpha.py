"""A run at another failure probability, from its journal."""

from dataclasses import replace

from diffsmooth.runs.reading import Run, results_of
from diffsmooth.stats import reanalyse
from diffsmooth.stats.errors import UserError
from diffsmooth.stats.printed import exact


def at_alpha(run: Run, alpha: float) -> Run:
    """The run that the same votes give at failure probability `alpha`.

    Raises:
        UserError: alpha out of range, no journal, or a journal whose votes do not give what it
            says; the message names the file.
    """
    if not run.records:
        raise UserError(
            f"{run.path}: has no journal (.jsonl) beside it, and without its votes a run cannot be "
            "analysed at another alpha"
        )
    records = []
    for record in run.records:
        try:
            records.append(replace(record, certificate=reanalyse(record.certificate, alpha)))
        except ValueError as error:
            raise UserError(f"{run.path}: image {record.index}: {error}") from error
    made_for = run.records[0].certificate.alpha
    remark = (
        f"at alpha {exact(alpha)}, from the votes that were cast for alpha {exact(made_for)}; what "
        "more votes would give cannot be told from these"
    )
    results = results_of(records, run.path)
    if results.understates and alpha != made_for:
        results = replace(results, stopped_for=made_for)
    return replace(run, results=results, records=tuple(records), remarks=(*run.remarks, remark))
