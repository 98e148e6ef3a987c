"""The files of a run: claimed before the first vote, a line an image, a table at the end."""

from collections.abc import Callable, Sequence
from contextlib import suppress

import lightning.pytorch as pl

from diffsmooth.lit.certification.module import CertificationCallback, CertificationModule
from diffsmooth.lit.certification.ranks import alike, from_all_ranks, to_rank_zero
from diffsmooth.lit.data.images import ImageSet, image_digest
from diffsmooth.lit.probes import device_name
from diffsmooth.models.smoothing.fixed_function import NotFixed
from diffsmooth.runs.journal import append_record, merge_records
from diffsmooth.runs.manifest import RunContext
from diffsmooth.runs.names import OutputError
from diffsmooth.runs.outputs import Outputs, Problem
from diffsmooth.runs.probes import Probe, check_ranks
from diffsmooth.stats import ImageRecord
from diffsmooth.stats.printed import counted

READ_AGAIN = 100  # images of a resumed run, at most, that are decoded to see that they are the same


class RunKeeper(CertificationCallback):
    """Keeps journal, manifest and table of a run.

    Every image goes to the journal when it is done, and those that it holds already are left out,
    so that the same run goes on where it stopped; failed ones are tried again. Behind
    `Preparation`: nothing is written for networks that are no fixed function.

    Args:
        outputs: the files; rank zero claims them.
        context: goes into the manifest.
        overwrite: whether the files of a different run may be replaced.
        find_problem: finds the first record of the run's that is not of its data.

    Attributes:
        records: all images' records, by ascending index, on rank zero at the end; None until then,
            and on the other ranks.
    """

    def __init__(
        self,
        outputs: Outputs,
        context: RunContext,
        overwrite: bool = False,
        find_problem: Callable[[ImageSet, Sequence[ImageRecord]], Problem | None] | None = None,
    ) -> None:
        self.outputs = outputs
        self._find_problem = find_problem or find_wrong_image
        self.records: list[ImageRecord] | None = None
        self._context = context
        self._overwrite = overwrite
        self._earlier: set[int] = set()

    def setup(self, trainer: pl.Trainer, module: CertificationModule, stage: str) -> None:  # type: ignore[override]
        outputs, fixed, probe = self.outputs, module.fixed, None
        if fixed is not None:
            device = device_name(trainer.strategy.root_device)
            probe = Probe(device, fixed.inputs, fixed.outputs, fixed.rounding)
        identities, probes = zip(*from_all_ranks((outputs.identity.stored(), probe)), strict=True)
        for rank, identity in enumerate(identities):
            if identity != identities[0]:
                difference = outputs.identity.difference(identity)
                raise OutputError(f"rank {rank} is not the same run as rank 0: {difference}")

        def claim() -> str:
            if trainer.is_global_zero:

                def problem_of(records: list[ImageRecord]) -> Problem | None:
                    return self._find_problem(module.images, records)

                if note := check_ranks(probes, outputs.identity.kernels == "timed"):
                    print(note)
                context = self._context._replace(probes=tuple(filter(None, probes)))
                outputs.claim(context, self._overwrite, problem_of)
            return outputs.digest

        module.digest = outputs.digest = alike(claim)[0]
        selected = set(module.selection)
        module.records = [record for record in outputs.read_records() if record.index in selected]
        self._earlier = {record.index for record in module.records if not record.error}
        self._part = outputs.new_part(trainer.global_rank)

    def on_image_finished(
        self, trainer: pl.Trainer, module: CertificationModule, record: ImageRecord
    ) -> None:
        append_record(self._part, record)

    # Not at `on_predict_end`, which is left out where nothing was to be done.
    def teardown(self, trainer: pl.Trainer, module: CertificationModule, stage: str) -> None:  # type: ignore[override]
        outputs = self.outputs
        # What all read from one disk need not travel: of 50,000 images that is much.
        shared = from_all_ranks(self._earlier)
        known = self._earlier if all(one == shared[0] for one in shared) else set[int]()
        new = [record for record in module.records if record.index not in known]
        gathered = to_rank_zero(module.records if trainer.is_global_zero else new)

        def finish() -> None:
            if not trainer.is_global_zero:
                return
            records = merge_records([record for part in gathered for record in part])
            missing = sorted(set(module.selection) - {record.index for record in records})
            if missing:
                raise OutputError(f"{counted(len(missing), 'image')} missing, first {missing[0]}")
            self.records = records
            if outputs.shard is None:
                outputs.finish(records)

        alike(finish)
        outputs.release()

    def on_exception(  # type: ignore[override]
        self, trainer: pl.Trainer, module: CertificationModule, error: BaseException
    ) -> None:
        if not isinstance(error, NotFixed):
            with suppress(Exception):  # what cannot be checked is voted on anew
                module.confirm()
        if trainer.world_size == 1:  # the other ranks are still at work: their end is the process's
            self.outputs.release()


def find_wrong_image(images: ImageSet, records: Sequence[ImageRecord]) -> Problem | None:
    """The first record whose image or label is not that of the data.

    The identity compares the files as such; this, what comes out of them, and the journal's words.
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
