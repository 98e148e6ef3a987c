"""Whether the images of a run are those that its journal is about."""

from collections.abc import Sequence

from diffsmooth.lit.data.images import ImageSet, image_digest
from diffsmooth.runs.outputs import Problem
from diffsmooth.stats import ImageRecord

READ_AGAIN = 100  # images of a resumed run, at most, that are decoded to see that they are the same


def find_problem(images: ImageSet, records: Sequence[ImageRecord]) -> Problem | None:
    """The first record whose image or label is not that of the data.

    The files as such are compared by the identity; this is for what comes out of them, and for
    what was written into a journal.
    """
    voted = []
    for record in records:
        label = images.label(record.index)
        if record.label != label:
            return Problem(record, f"has label {record.label}, but the data give it {label}")
        if record.origin is None:
            continue
        name = images.file_name(record.index)
        if record.origin.file != name:
            return Problem(record, f"is of the file {record.origin.file!r}, not of {name!r}")
        if not record.error:
            voted.append((record, record.origin.image))
    step = 1 if images.in_memory else -(-len(voted) // READ_AGAIN)
    for record, digest in voted[:: step or 1]:
        if image_digest(images[record.index].image) != digest:
            return Problem(record, "is not the one that was certified")
    return None
