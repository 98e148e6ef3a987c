"""`diffsmooth bench`: votes a second of the shipped networks on this machine."""

import statistics
import time

import torch

from diffsmooth.cli.device import pick_device
from diffsmooth.cli.errors import OneLineParser, fail
from diffsmooth.models import (
    IdentityPurifier,
    LocalSmoothing,
    OneShotPurifier,
    SmoothedClassifier,
    build_classifier,
    build_unet,
)
from diffsmooth.models.dataset_info import FASHION_MNIST
from diffsmooth.models.noise import NoiseKey
from diffsmooth.models.presets import get_preset

METHODS = ("Cohen", "diffusion denoised", "DiffSmooth m=5")


def main(args: list[str] | None = None, prog: str = "diffsmooth bench") -> None:
    """Runs the command on `args`, by default the process's."""
    parser = OneLineParser(prog=prog, description=__doc__)
    parser.add_argument("--batch", type=int, default=50, help="votes a forward pass")
    parser.add_argument("--votes", type=int, default=400, help="votes a repetition")
    parser.add_argument("--repetitions", type=int, default=5, help="the median is printed")
    namespace = parser.parse_args(args)
    for name in ("batch", "votes", "repetitions"):
        if getattr(namespace, name) < 1:
            fail(prog, f"{name} must be at least 1, got {getattr(namespace, name)}")
    device = pick_device("auto")
    print(f"{device}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    print(f"{'method':20} {'float32':>10} {'bf16':>10}   votes/s")
    for method in METHODS:
        models = [_smoothed(method, p, namespace.batch).to(device) for p in ("float32", "bf16")]
        seconds: list[list[float]] = [[], []]
        for repetition in range(namespace.repetitions + 1):  # interleaved; the first warms up
            for model, times in zip(models, seconds, strict=True):
                start = time.perf_counter()
                _vote(model, namespace.votes)
                if repetition:
                    times.append(time.perf_counter() - start)
        rates = [namespace.votes / statistics.median(times) for times in seconds]
        print(f"{method:20} {rates[0]:10.0f} {rates[1]:10.0f}")


def _smoothed(method: str, precision: str, batch: int) -> SmoothedClassifier:
    """The shipped architectures with fresh weights: their values do not change the speed."""
    classifier = build_classifier("cifar_resnet20", 10, dataset=FASHION_MNIST)
    m, sigma_local = (5, 0.25) if method.startswith("DiffSmooth") else (1, 0.0)
    local = LocalSmoothing(classifier, m, sigma_local, FASHION_MNIST.image_shape)
    purifier: IdentityPurifier | OneShotPurifier = IdentityPurifier()
    if method != "Cohen":
        preset = "small-gray32"
        purifier = OneShotPurifier(build_unet(preset), get_preset(preset).schedule)
    return SmoothedClassifier(purifier, local, 0.5, 10, batch, precision)


def _vote(model: SmoothedClassifier, votes: int) -> None:
    shape = FASHION_MNIST.image_shape
    key = NoiseKey(0, "certify", "bench", "test", 0)
    model.count_votes(torch.full(shape, 0.5), model.vote_noise(key, 0, shape), votes)
