"""Times a group norm with FiLM and SiLU on a GPU: plain, our kernel, inductor's.

python tests/models/kernels/bench_group_norm.py [--rounds 50]

GB/s count what the operation cannot do without: reading and writing each number once.
"""

import argparse
import statistics
import sys
from collections.abc import Callable

import torch
from torch import Tensor, nn

from diffsmooth.models.diffusion.unet import Conditioned, FilmNorm, SiLU
from diffsmooth.models.kernels.availability import lacking
from diffsmooth.models.smoothing.fused_norm import fuse_norms

# (B, C, H, W): of the CIFAR-10 U-Net at batch 1,000, of the ImageNet one at batch 32.
SHAPES = [(1000, 128, 32, 32), (1000, 256, 16, 16), (32, 256, 256, 256), (32, 1024, 32, 32)]


def layers(channels: int, fused: bool) -> nn.Module:
    """Norm and SiLU, with fixed weights."""
    torch.manual_seed(0)
    made = Conditioned(FilmNorm(32, channels), SiLU()).eval()
    if fused:
        fuse_norms(made)
    return made.cuda()


def run(network: nn.Module, x: Tensor, told: Tensor) -> Tensor:
    """Norm and SiLU under autocast, as the next convolution wants them."""
    with torch.autocast("cuda", torch.bfloat16):
        h = network(x, told)
    return h.to(torch.bfloat16).contiguous(memory_format=torch.channels_last)


@torch.inference_mode()
def seconds_of(work: Callable[..., Tensor], rounds: int, *args: object) -> float:
    """The median of so many calls, after some that warm up (and compile)."""
    times = []
    for _ in range(3 + rounds):
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        first.record()
        work(*args)
        last.record()
        last.synchronize()
        times.append(first.elapsed_time(last) / 1e3)
    return statistics.median(times[3:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    rounds = parser.parse_args().rounds
    reason = lacking(torch.device("cuda")) if torch.cuda.is_available() else "there is no GPU"
    if reason:
        sys.exit(f"the kernel cannot run here: {reason}")
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, bf16, medians of {rounds}")
    print(f"{'':20}{'plain':>24}{'ours':>24}{'inductor':>24}   plain / ours")
    for shape in SHAPES:
        x = torch.randn(shape, device="cuda", dtype=torch.bfloat16)
        x = x.contiguous(memory_format=torch.channels_last)
        told = torch.randn(1, 2 * shape[1], device="cuda", dtype=torch.bfloat16)
        plain, ours = (layers(shape[1], fused) for fused in (False, True))
        compiled = torch.compile(run, dynamic=False)
        found = [
            seconds_of(work, rounds, network, x, told)
            for work, network in ((run, plain), (run, ours), (compiled, plain))
        ]
        cells = [f"{1e3 * t:.3f} ms {4 * x.numel() / t / 1e9:6,.0f} GB/s" for t in found]
        line = "".join(f"{cell:>24}" for cell in cells)
        print(f"{'x'.join(map(str, shape)):20}{line}   {found[0] / found[1]:.2f}", flush=True)


if __name__ == "__main__":
    main()
