"""`diffsmooth merge`: the table of a run whose shards have done all images."""

from pathlib import Path

from diffsmooth.cli.errors import OneLineParser, user_errors
from diffsmooth.cli.predict import prediction_text
from diffsmooth.cli.run import report_failures
from diffsmooth.pipeline.publish import publish
from diffsmooth.runs.identity import RunIdentity
from diffsmooth.runs.manifest import read_manifest
from diffsmooth.runs.names import OutputError, OutputFiles
from diffsmooth.runs.outputs import Outputs
from diffsmooth.stats import ImageRecord
from diffsmooth.stats.errors import UserError
from diffsmooth.stats.results import CERTIFY_COLUMNS, PREDICT_COLUMNS


def main(args: list[str] | None = None, prog: str = "diffsmooth merge") -> None:
    """Runs the command on `args`, by default the process's."""
    parser = OneLineParser(prog=prog, description=__doc__)
    parser.add_argument("outfile", type=str, help="the OUTFILE that the shards were given")
    parser.add_argument("--logdir", type=str, default="logs", help="folder of TensorBoard events")
    namespace = parser.parse_args(args)
    with user_errors(prog):
        files = OutputFiles(namespace.outfile)
        identity = _stored_identity(files)
        records = merge(Outputs(files, identity))
    if identity.command == "predict":
        print(prediction_text(files, records))
    else:
        with user_errors(prog):
            publish(files, [], Path(namespace.logdir))
    report_failures(prog, records, "the command of their shard")


def merge(outputs: Outputs) -> list[ImageRecord]:
    """Writes the table and the journal of a run that is complete.

    Raises:
        OutputError: images are missing, a shard is at work, or the files cannot be written.
    """
    outputs.hold()
    records = outputs.read_records()
    wanted, done = outputs.identity.selection, {record.index for record in records}
    missing = len(wanted) - len(done)  # what is read is among what is wanted
    if missing:
        strangers = outputs.strangers()
        reason = (
            f"{len(strangers)} parts are of a run with another manifest, such as {strangers[0]}"
            if strangers
            else "run the shards to their end"
        )
        raise OutputError(
            f"{outputs.files.table}: {missing} of {len(wanted)} images are missing, the first is "
            f"{next(index for index in wanted if index not in done)}: {reason}"
        )
    columns = PREDICT_COLUMNS if outputs.identity.command == "predict" else CERTIFY_COLUMNS
    outputs.finish(records, columns)
    return records


def _stored_identity(files: OutputFiles) -> RunIdentity:
    manifest = read_manifest(files.manifest)
    if manifest is None:
        raise OutputError(f"{files.manifest}: no such file: there is no run to merge")
    try:
        return RunIdentity.from_stored(manifest.identity)
    except UserError as error:
        raise OutputError(f"{files.manifest}: {error}") from error
