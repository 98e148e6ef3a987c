"""Times a group norm with FiLM and SiLU on a GPU: plain, our kernel, inductor's.

python tests/models/kernels/bench_group_norm.py [--rounds 50]

GB/s count what the operation cannot do without: reading and writing each number once.
"""

import argparse
import statistics
from collections.abc import Callable

import torch
from torch import Tensor, nn

from diffsmooth.models.diffusion.unet import Conditioned, FilmNorm, SiLU
from diffsmooth.models.kernels.availability import lacking
from diffsmooth.models.smoothing.fused_norm import fuse_norms
from diffsmooth.stats.errors import UserError

# (B, C, H, W): of the CIFAR-10 U-Net at batch 1,000, of the ImageNet one at batch 32.
SHAPES = [(1000, 128, 32, 32), (1000, 256, 16, 16), (32, 256, 256, 256), (32, 1024, 32, 32)]


def layers(channels: int, fused: bool) -> nn.Module:
    """Norm, SiLU, and a convolution's cast: what surrounds a convolution under autocast."""
    torch.manual_seed(0)
    made = Conditioned(FilmNorm(32, channels), SiLU()).eval()
    if fused:
        fuse_norms(made)
    return made


@torch.inference_mode()
def seconds_of(work: Callable[[], object], rounds: int) -> float:
    """The median of so many calls, after as many as warm up (and compile)."""
    times = []
    for _ in range(3 + rounds):
        events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
        events[0].record()
        work()
        events[1].record()
        events[1].synchronize()
        times.append(events[0].elapsed_time(events[1]) / 1e3)
    return statistics.median(times[3:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    rounds = parser.parse_args().rounds
    device = torch.device("cuda")
    if not torch.cuda.is_available() or lacking(device):
        raise UserError("there is no GPU that the kernels run on")
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, bf16, medians of {rounds}")
    print(f"{'':24}{'plain':>20}{'ours':>20}{'inductor':>20}   ours to plain")
    for shape in SHAPES:
        x = torch.randn(shape, device=device, dtype=torch.bfloat16)
        x = x.contiguous(memory_format=torch.channels_last)
        told = torch.randn(1, 2 * shape[1], device=device, dtype=torch.bfloat16)
        plain, ours = (layers(shape[1], fused).to(device) for fused in (False, True))

        def ready(network: Callable[[Tensor, Tensor], Tensor], x: Tensor, told: Tensor) -> Tensor:
            """As the next convolution wants it."""
            with torch.autocast("cuda", torch.bfloat16):
                h = network(x, told)
            return h.to(torch.bfloat16).contiguous(memory_format=torch.channels_last)

        compiled = torch.compile(ready, dynamic=False)
        ways = [lambda: ready(plain, x, told), lambda: ready(ours, x, told),
                lambda: compiled(plain, x, told)]  # fmt: skip
        found = [seconds_of(way, rounds) for way in ways]
        cells = [f"{1e3 * t:8.3f} ms {2 * 2 * x.numel() / t / 1e9:6,.0f} GB/s" for t in found]
        line = "".join(f"{cell:>22}" for cell in cells)
        print(f"{'x'.join(map(str, shape)):20}{line}   {found[0] / found[1]:.2f}", flush=True)


if __name__ == "__main__":
    main()
