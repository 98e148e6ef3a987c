"""What a batch is computed to take is at least what it takes: `--batch auto` lives on it."""

from collections.abc import Callable

import pytest
import torch
from gpu_device import ON_CPU, device, peak_bytes, voting

from diffsmooth.pipeline.batch_choice import OF_ACTIVATIONS, WORKSPACE
from diffsmooth.pipeline.device import can_compile
from diffsmooth.pipeline.work_of_a_batch import bytes_of_batch
from diffsmooth.pipeline.workloads import WORKLOADS

pytestmark = pytest.mark.gpu
CASES = (
    [("cohen", 16, False), ("small", 2, False)]
    if ON_CPU
    else [("cohen", 4096, False), ("small", 256, False), ("small", 1024, False),
          ("full", 128, False), ("full", 512, False), ("resnet110", 4096, False),
          ("cohen", 4096, True), ("small", 1024, True)]
)  # fmt: skip
SCRATCH = 2**26 if ON_CPU else WORKSPACE  # of kernels, beside the activations
LOOSE = 4  # times too much would make batches too small


@pytest.mark.parametrize("precision", ["float32"] if ON_CPU else ["float32", "bf16"])
@pytest.mark.parametrize(("name", "batch", "compiled"), CASES)
def test_the_computed_bytes_are_an_upper_bound(
    name: str,
    batch: int,
    compiled: bool,
    precision: str,
    record_property: Callable[[str, object], None],
) -> None:
    if compiled and (reason := can_compile(device())):
        pytest.skip(reason)
    loaded = WORKLOADS[name].loaded(batch, "plain", device())
    loaded.precision = precision
    computed = bytes_of_batch(loaded, batch, device())
    assert computed is not None
    del loaded
    f = voting(name, precision, batch, compiled)
    noisy = torch.rand(batch, *f.image_shape, device=device())

    @torch.inference_mode()
    def answer() -> None:
        f.answer(noisy, lambda run: None)

    if ON_CPU:
        answer()
    else:  # the first passes compile, and record graphs that keep what they take: all of it counts
        torch.cuda.empty_cache()
    measured = peak_bytes(lambda: [answer() for _ in range(3)])
    record_property("measured bytes to computed ones", round(measured / computed, 3))
    assert measured <= OF_ACTIVATIONS * computed + SCRATCH
    if not compiled:
        assert computed <= LOOSE * measured
