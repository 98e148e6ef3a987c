"""The table of a run whose shards have done all images."""

from diffsmooth.runs.identity import RunIdentity
from diffsmooth.runs.manifest import read_manifest
from diffsmooth.runs.names import OutputError, OutputFiles
from diffsmooth.runs.outputs import Outputs
from diffsmooth.stats import ImageRecord
from diffsmooth.stats.errors import UserError

ATTACK_MERGES = "the same command without --shard"  # whose networks may be asked again


def merge(files: OutputFiles) -> tuple[RunIdentity, list[ImageRecord]]:
    """Writes the table and the journal of a complete run; gives its records by ascending index.

    Raises:
        OutputError: images are missing, a shard is at work, or the files cannot be written.
    """
    identity = _stored_identity(files)
    if identity.command == "attack":
        raise OutputError(f"{files.table}: is of attacks: {ATTACK_MERGES} merges its shards")
    outputs = Outputs(files, identity)
    try:
        outputs.hold()
        records = outputs.read_records()
        wanted, done = identity.selection, {record.index for record in records}
        missing = len(wanted) - len(done)  # what is read is among what is wanted
        if missing:
            strangers = outputs.strangers()
            reason = (
                f"{len(strangers)} parts are of a run with another manifest, such as {strangers[0]}"
                if strangers
                else "run the shards to their end"
            )
            raise OutputError(
                f"{files.table}: {missing} of {len(wanted)} images are missing, the first is "
                f"{next(index for index in wanted if index not in done)}: {reason}"
            )
        outputs.finish(records)
        return identity, records
    finally:
        outputs.release()


def _stored_identity(files: OutputFiles) -> RunIdentity:
    manifest = read_manifest(files.manifest)
    if manifest is None:
        raise OutputError(f"{files.manifest}: no such file: there is no run to merge")
    try:
        return RunIdentity.from_stored(manifest.identity)
    except UserError as error:
        raise OutputError(f"{files.manifest}: {error}") from error
