"""Gathering records from the ranks: by objects over gloo, since ranks hold different numbers."""

import torch.distributed as dist

from diffsmooth.lit.journal import merge_records
from diffsmooth.stats import ImageRecord


def _is_distributed() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def share_done(done: set[int]) -> set[int]:
    """The union over the ranks of the images that are done; waits for all ranks."""
    if not _is_distributed():
        return done
    all_done: list[set[int] | None] = [None] * dist.get_world_size()
    dist.all_gather_object(all_done, done)
    return set().union(*(part for part in all_done if part is not None))


def gather_records(records: list[ImageRecord], selection: list[int]) -> list[ImageRecord] | None:
    """All ranks' records, merged, on rank zero; None elsewhere. Waits for all ranks.

    Args:
        records: this rank's.
        selection: indices that must be there.

    Raises:
        ValueError: (rank zero) an image is missing, or two records of one differ.
    """
    rows = records
    if _is_distributed():
        parts: list[list[ImageRecord] | None] | None = None
        if dist.get_rank() == 0:
            parts = [None] * dist.get_world_size()
        dist.gather_object(records, parts, dst=0)
        if parts is None:
            return None
        rows = [record for part in parts if part is not None for record in part]
    merged = merge_records(rows)
    missing = sorted(set(selection) - {record.index for record in merged})
    if missing:
        raise ValueError(f"{len(missing)} images are missing, the first is {missing[0]}")
    return merged


def shared_identity(identity: str) -> str:
    """Rank zero's identity, on every rank."""
    if not _is_distributed():
        return identity
    box = [identity]
    dist.broadcast_object_list(box, src=0)
    return box[0]
