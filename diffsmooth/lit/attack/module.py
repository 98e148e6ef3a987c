"""PREDICT on attacked images, with noise that neither the attack nor the certificate has seen."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch

from diffsmooth.lit.attack.images import AttackedImages
from diffsmooth.lit.certification import CertificationModule
from diffsmooth.models.smoothing.engine import IN_FLIGHT
from diffsmooth.models.smoothing.noise import NoiseSource
from diffsmooth.models.smoothing.vote_function import VoteFunction
from diffsmooth.stats import ImageRecord, MajorityVote


class AttackModule(CertificationModule):
    """`CertificationModule` whose images are tries; each record says what its try was.

    Args:
        f, selection, split, seed, in_flight: see `CertificationModule`.
        plan: how many votes an attacked image gets.
        images: the tries.
        source_on: from a device to the source of the votes' noise.
    """

    images: AttackedImages

    def __init__(
        self,
        f: VoteFunction,
        plan: MajorityVote,
        images: AttackedImages,
        selection: Sequence[int],
        split: str,
        seed: int,
        source_on: Callable[[torch.device], NoiseSource],
        in_flight: int = IN_FLIGHT,
    ) -> None:
        super().__init__(f, plan, images, selection, "attacked", split, seed, in_flight=in_flight)
        self._source_on = source_on

    def make_source(self) -> NoiseSource:
        return self._source_on(self.device)

    def _record(self, index: int, *args: Any, **kwargs: Any) -> ImageRecord:
        record = super()._record(index, *args, **kwargs)
        return replace(record, attack=self.images.attack_of(index))
