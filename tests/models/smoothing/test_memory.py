"""Out of memory ends the run, with a line that names --batch; no image is to blame."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from test_engine import SHAPE, Linear, linear_model, run, tasks
from torch import Tensor

from diffsmooth.models.smoothing.memory import OutOfMemory, is_out_of_memory, memory_for
from diffsmooth.models.smoothing.noise import NumpyNoise
from diffsmooth.models.smoothing.sweep import Setting, Sweep, certify_settings
from diffsmooth.stats import FixedSampleSize
from diffsmooth.stats.errors import UserError

PLAN = FixedSampleSize(n0=10, n=20)
CHECKS = 4  # forward passes before the first vote


def cuda() -> Tensor:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 12.00 GiB. GPU 0 has")


def cublas() -> Tensor:
    raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")


def absurd() -> Tensor:
    return torch.empty(2**58, dtype=torch.uint8)


def absurd_in_numpy() -> Tensor:
    return torch.from_numpy(np.ones(2**58))


FULL = pytest.mark.parametrize("allocate", [cuda, cublas, absurd, absurd_in_numpy])


class Hungry(Linear):
    def __init__(self, allocate: Callable[[], Tensor], at: int) -> None:
        super().__init__()
        self.allocate, self.at = allocate, at

    def forward(self, x: Tensor) -> Tensor:
        if len(self.seen) >= self.at:
            self.allocate()
        return super().forward(x)


@FULL
@pytest.mark.parametrize("at", [0, 3, CHECKS + 1])
def test_it_ends_the_run_with_a_line_that_names_the_batch(
    allocate: Callable[[], Tensor], at: int
) -> None:
    with pytest.raises(UserError, match=r"^out of memory at batch 16: give a smaller one, --batch"):
        run(linear_model(16, Hungry(allocate, at)), PLAN, tasks(3))


@FULL
def test_so_it_does_while_the_images_at_fault_are_looked_for(
    allocate: Callable[[], Tensor],
) -> None:
    class FirstFails(Hungry):
        def forward(self, x: Tensor) -> Tensor:
            if len(self.seen) == CHECKS:
                self.seen.append(0)
                raise RuntimeError("of its own")
            return super().forward(x)

    with pytest.raises(OutOfMemory):
        run(linear_model(50, FirstFails(allocate, CHECKS + 2)), PLAN, tasks(3))


@FULL
def test_so_it_does_in_a_sweep(allocate: Callable[[], Tensor]) -> None:
    sweep = Sweep(
        linear_model(16, Hungry(allocate, CHECKS + 1)).f, [Setting(0.1, 1), Setting(0.2, 2)], 0
    )
    with pytest.raises(OutOfMemory, match=r"at batch 16.*--batch"):
        list(certify_settings(sweep, PLAN, tasks(2), NumpyNoise(), lambda _: None))


def test_so_it_does_where_the_noise_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(NumpyNoise, "draw", lambda *_: absurd_in_numpy())
    with pytest.raises(OutOfMemory, match=r"at batch 16.*--batch"):
        run(linear_model(16), PLAN, tasks(2))
    sweep = Sweep(linear_model(16).f, [Setting(0.1, 1)], 0)
    with pytest.raises(OutOfMemory, match=r"at batch 16.*--batch"):
        list(certify_settings(sweep, PLAN, tasks(2), NumpyNoise(), lambda _: None))


@pytest.mark.parametrize("error", [ValueError("out of memory"), RuntimeError("too bright")])
def test_other_errors_are_left_alone(error: Exception) -> None:
    assert not is_out_of_memory(error)
    with pytest.raises(type(error)) as caught, memory_for(4):
        raise error
    assert caught.value is error


def test_the_line_is_short() -> None:
    with pytest.raises(OutOfMemory) as caught, memory_for(4):
        raise MemoryError("x " * 1000 + str(SHAPE))
    assert len(str(caught.value)) < 200
