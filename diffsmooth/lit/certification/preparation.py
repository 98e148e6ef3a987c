"""The networks before the first vote: made fast, and found to be one fixed function."""

import sys
from collections.abc import Callable, Sequence

import lightning.pytorch as pl
import torch

from diffsmooth.lit.certification.module import CertificationCallback, CertificationModule
from diffsmooth.lit.certification.ranks import alike
from diffsmooth.lit.probes import probe_images
from diffsmooth.models.smoothing.fixed_function import FixedFunction, ensure_fixed
from diffsmooth.models.smoothing.inference import prepare
from diffsmooth.models.smoothing.vote_function import VoteFunction


class Preparation(CertificationCallback):
    """Prepares the networks on their device, and checks them; where one rank fails, all do.

    Args:
        prepare: makes f ready for many votes, in place.
        threads: how many each process has; None leaves them as they are.
        selection: indices of images, the first few of which are tried; None for the module's.
        check: run by rank zero before anything else; raises UserError to stop all ranks.
        is_needed: whether there is anything to vote on.
        tell: run by rank zero before the first vote, with what was found of f; None where nothing
            was tried.
        is_all: whether the run ends then, on all ranks, before anything is written.
    """

    def __init__(
        self,
        prepare: Callable[[VoteFunction], object] = prepare,
        threads: int | None = None,
        selection: Sequence[int] | None = None,
        check: Callable[[], object] = lambda: None,
        is_needed: Callable[[], bool] = lambda: True,
        tell: Callable[[FixedFunction | None], object] = lambda fixed: None,
        is_all: bool = False,
    ) -> None:
        self._prepare: Callable[[VoteFunction], object] | None = prepare
        self._threads = threads
        self._selection = selection
        self._check = check
        self._is_needed = is_needed
        self._tell = tell
        self._is_all = is_all

    def setup(self, trainer: pl.Trainer, module: CertificationModule, stage: str) -> None:  # type: ignore[override]
        # Here, and not before: Lightning sets the threads of its own accord when it launches.
        torch.set_num_threads(self._threads or torch.get_num_threads())
        alike(lambda: self._try_out(trainer, module))
        if self._is_all:
            raise SystemExit(0)

    def _try_out(self, trainer: pl.Trainer, module: CertificationModule) -> None:
        if trainer.is_global_zero:
            self._check()
        if self._is_needed():
            self.on_predict_start(trainer, module)
        if trainer.is_global_zero:
            self._tell(module.fixed)
            if module.fixed is not None and not module.fixed.exact:
                print(module.fixed)

    def on_predict_start(self, trainer: pl.Trainer, module: CertificationModule) -> None:  # type: ignore[override]
        """Checks f: again only if something was done to it."""
        f = module.f
        if self._prepare is not None:
            self._prepare(f.to(trainer.strategy.root_device).eval())
            self._prepare = None
        selection = module.selection if self._selection is None else self._selection
        images = probe_images(module.images, selection, f.image_shape)
        silent = not trainer.is_global_zero
        module.fixed = ensure_fixed(f, images, lambda line: silent or print(line, file=sys.stderr))
