"""A run in somebody else's process: whatever it turns is turned back."""

import logging
import random
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.utilities.warnings import PossibleUserWarning

from diffsmooth.lit.certification.ranks import is_distributed
from diffsmooth.models.smoothing.host import give_memory_back
from diffsmooth.models.smoothing.precision import current_numerics, numerics_of
from diffsmooth.stats.errors import UserError


@contextmanager
def as_a_guest(device: torch.device) -> Iterator[None]:
    """Within, the process is as a run wants it; afterwards as its owner left it.

    That is: threads, random states, default type and device, the current CUDA device, inference
    mode, the switches of PyTorch's numerics, freed memory, warnings' filters, Lightning's logging,
    and what Ctrl-C does, which raises KeyboardInterrupt (Lightning would end the process, and
    ignore the next one).

    Args:
        device: where it runs.

    Raises:
        UserError: the process is one of several of PyTorch's, which would wait for each other.
    """
    if is_distributed():
        raise UserError(
            "this process is a rank of torch.distributed: certify in one process, or by "
            "`diffsmooth certify --devices`"
        )
    lightning = logging.getLogger("lightning.pytorch")
    threads, dtype, level = torch.get_num_threads(), torch.get_default_dtype(), lightning.level
    interrupt = signal.getsignal(signal.SIGINT)
    with ExitStack() as stack:
        devices = [device] if device.type == "cuda" else []
        if devices:  # Lightning makes its own the current one
            stack.enter_context(torch.cuda.device(torch.cuda.current_device()))
        stack.callback(give_memory_back)
        stack.enter_context(torch.random.fork_rng(devices))
        stack.callback(random.setstate, random.getstate())
        stack.callback(np.random.set_state, np.random.get_state())  # noqa: NPY002
        stack.enter_context(numerics_of(current_numerics()))
        stack.enter_context(torch.inference_mode(False))
        if torch.get_default_device().type != "cpu":  # slow, and seldom needed
            stack.enter_context(torch.device("cpu"))
        stack.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", ".*(LeafSpec|across ranks is zero|Total length).*")
        warnings.filterwarnings("ignore", category=PossibleUserWarning)  # Lightning's advice
        try:
            torch.set_default_dtype(torch.float32)
            lightning.setLevel(logging.WARNING)
            yield
        except SystemExit as end:
            if isinstance(end.__context__, KeyboardInterrupt):
                raise KeyboardInterrupt from None
            raise
        finally:
            torch.set_num_threads(threads)
            torch.set_default_dtype(dtype)
            lightning.setLevel(level)
            _set_handler(signal.SIGINT, interrupt)


def guest_trainer(device: torch.device, callbacks: list[pl.Callback]) -> pl.Trainer:
    """A trainer for `trainer.predict` on one device, whatever launcher started the process."""
    return pl.Trainer(
        accelerator=device.type,
        devices=1 if device.type == "cpu" else [device.index or 0],
        plugins=[LightningEnvironment()],
        callbacks=[*callbacks, OwnSigterm()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


class OwnSigterm(pl.Callback):
    """SIGTERM does what it did before: Lightning swallows it while it predicts."""

    def __init__(self) -> None:
        self._before = signal.getsignal(signal.SIGTERM)

    def on_predict_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        _set_handler(signal.SIGTERM, self._before)


def _set_handler(number: signal.Signals, handler: Any) -> None:
    """Sets what a signal does, where Python knows it, and lets this thread set it."""
    if handler is not None and threading.current_thread() is threading.main_thread():
        signal.signal(number, handler)
