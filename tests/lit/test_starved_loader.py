"""A loader's process that cannot start a thread says so, and its training does not wait for it."""

import signal
import threading
from typing import Any

import pytest
import torch
from torch.utils.data import SequentialSampler, TensorDataset

from diffsmooth.lit.data.loaders import make_loader
from diffsmooth.models.smoothing.memory import is_out_of_memory


def too_late(*_: Any) -> None:
    raise TimeoutError("it waits for ever")


def test_batches_that_cannot_be_shared_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def start_unless_it_shares(self: threading.Thread) -> None:
        if self._target.__name__ == "_serve":  # type: ignore[attr-defined]
            raise RuntimeError("can't start new thread")  # Python's words, which has no room for it
        start(self)

    monkeypatch.setattr(threading.Thread, "start", start_unless_it_shares)
    images = TensorDataset(torch.zeros(4, 1, 8, 8))
    loader = make_loader(images, 2, SequentialSampler(images), workers=1, pinned=False)
    signal.signal(signal.SIGALRM, too_late)
    signal.alarm(30)
    try:
        with pytest.raises(RuntimeError, match="can't start new thread") as raised:
            list(loader)
    finally:
        signal.alarm(0)
    assert is_out_of_memory(raised.value)
