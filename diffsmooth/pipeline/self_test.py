"""Golden vectors and a small certification on a device, beside the stored results of a CPU.

For who runs on hardware that we have never seen: `diffsmooth doctor --self-test`.
"""

import contextlib
import hashlib
from collections.abc import Iterator
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from diffsmooth.golden import FOLDER
from diffsmooth.golden.fill import fill
from diffsmooth.lit.data import load_images
from diffsmooth.models import (
    LocalSmoothing,
    OneShotPurifier,
    build_classifier,
    build_denoiser,
    load_classifier,
    load_denoiser,
)
from diffsmooth.models.diffusion.openai import OpenAIDenoiser
from diffsmooth.models.smoothing.inference import prepare
from diffsmooth.models.smoothing.integer_noise import IntegerNoise
from diffsmooth.models.smoothing.noise import NoiseKey, Votes
from diffsmooth.models.smoothing.one_image import run_plan
from diffsmooth.models.smoothing.precision import autocast
from diffsmooth.models.smoothing.vote_function import VoteFunction
from diffsmooth.pipeline.device import choose_norms
from diffsmooth.runs.line import from_line
from diffsmooth.shipped import located
from diffsmooth.stats import FixedSampleSize
from diffsmooth.stats.errors import UserError
from diffsmooth.stats.printed import rounded_down

# The small U-Nets of the golden vectors: preset, and what differs from it.
SMALL_UNETS: dict[str, tuple[str, dict[str, Any]]] = {
    "improved": ("improved-cifar10", {"model_channels": 32, "num_res_blocks": 1}),
    "guided": (
        "guided-imagenet",
        {
            "image_size": 64,
            "model_channels": 32,
            "num_res_blocks": 1,
            "channel_mult": (1, 2, 3, 4),
            "head_channels": 16,
        },
    ),
}
CLASSIFIER = located("pkg:fashion_mnist_gaussian_0.25.pt")
DIFFUSION = located("pkg:fashion_mnist_diffusion.pt")
# Largest difference from the stored values, relative to the largest of them: the golden vectors'
# own in float32; in bf16 two to four times what a CPU's 8 bits were measured to do. The golden
# weights, being random, amplify rounding, the U-Nets' more than the others'.
UNET_TOLERANCE = {"float32": 2e-4, "bf16": 0.1}
CLASSIFIER_TOLERANCE = {"float32": 2e-4, "bf16": 0.02}
VOTES_TOLERANCE = {"float32": 0.002, "bf16": 0.02}  # share of votes for another class
# Of the whole numbers that `_check_noise` draws.
EXACT_NOISE = "adaa281543aa78d61f391b71ead37bdf2f8f8d43b1d913bd790d862916fcd8cd"


class Agreement(NamedTuple):
    """How far a result on this device lies from the stored one, and how far it may."""

    name: str
    difference: float
    tolerance: float

    @property
    def agrees(self) -> bool:
        return self.difference <= self.tolerance  # not so for NaN

    def __str__(self) -> str:
        word = "agrees" if self.agrees else "DIFFERS"
        return f"{word:8} {self.name:42} by {self.difference:.1e} (at most {self.tolerance:.0e})"


class Setup(NamedTuple):
    """On what, and how, the networks run: precision float32 or bf16."""

    device: torch.device
    precision: str
    compiled: bool

    def place(self, model: nn.Module) -> nn.Module:
        """The network on the device, compiled in place where wanted."""
        model = model.eval().to(self.device)
        if self.compiled:  # tensor code only, as `prepare` does
            getattr(model, "unet", model).compile(dynamic=False)
        return model

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        with torch.inference_mode(), autocast(self.precision, self.device.type):
            yield

    def tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self.device)


def print_self_test(setup: Setup) -> bool:
    """Prints each check's outcome as soon as it is known; whether all agree."""
    name = setup.device.type
    if name == "cuda":
        name = torch.cuda.get_device_name(setup.device)
    how = f"{setup.precision}{', compiled' if setup.compiled else ''}"
    print(f"self-test on {name}, {how}, torch {torch.__version__}; differences are relative to the "
          "largest stored value, or shares of the votes")  # fmt: skip
    checks = chain(
        *(_check_unet(family, setup) for family in SMALL_UNETS),
        _check_classifiers(setup),
        _check_pipeline(setup),
        _check_noise(setup),
        _check_certification(setup),
    )
    differing = 0
    try:
        for agreement in checks:
            print(agreement, flush=True)
            differing += not agreement.agrees
    except UserError:
        raise
    except Exception as error:  # of torch, its compiler or the driver: that, too, is an outcome
        reason = str(error).strip().splitlines()[0] if str(error).strip() else ""
        print(f"FAILED   {type(error).__name__}: {reason}")
        return False
    print(
        f"{differing} results DIFFER from the stored ones: do not trust this setting's certificates"
        if differing
        else "all agree with the stored results of a CPU in float32"
    )
    return not differing


def _check_unet(family: str, setup: Setup) -> Iterator[Agreement]:
    denoiser, golden = _small_denoiser(family, setup), _golden(f"unet_small_{family}")
    tolerance = UNET_TOLERANCE[setup.precision]
    times = setup.tensor(golden["t"] * np.float32(denoiser.schedule.network_time(1)))
    with setup.running():
        output = denoiser.unet(setup.tensor(golden["x"]), times)
    yield _compare(f"{family} U-Net", output, golden["model_output"], tolerance)
    purifier = OneShotPurifier(denoiser)
    for sigma in ("0.25", "0.5", "1.0"):
        noisy = golden["image"] + np.float32(sigma) * golden[f"noise_{sigma}"]
        with setup.running():
            purified = purifier(setup.tensor(noisy), float(sigma))
        name = f"{family} U-Net, purified at sigma {sigma}"
        yield _compare(name, purified, golden[f"purified_{sigma}"], tolerance)


def _check_classifiers(setup: Setup) -> Iterator[Agreement]:
    golden, tolerance = _golden("resnet"), CLASSIFIER_TOLERANCE[setup.precision]
    for depth in (20, 110):
        model = _filled_classifier(depth, setup)
        with setup.running():
            logits = model(setup.tensor(golden["x"]))
        yield _compare(f"ResNet-{depth}", logits, golden[f"logits_resnet{depth}"], tolerance)


def _check_pipeline(setup: Setup) -> Iterator[Agreement]:
    golden = _golden("pipeline_small")
    purifier = OneShotPurifier(_small_denoiser("improved", setup))
    noise = torch.from_numpy(golden["local_noise"])
    local = LocalSmoothing(_filled_classifier(20, setup), 5, 0.25, noise=noise).to(setup.device)
    with setup.running():
        noisy = golden["x"] + np.float32(0.5) * golden["noise"]
        confidence = local(purifier(setup.tensor(noisy), 0.5))
    expected = golden["confidence_sigma0.5_local0.25_m5"]
    name = "purification and local smoothing"
    agreement = _compare(name, confidence, expected, CLASSIFIER_TOLERANCE[setup.precision])
    same = (confidence.argmax(dim=1).cpu().numpy() == expected.argmax(axis=1)).all()
    yield agreement if same else agreement._replace(name=f"{name}: answers", difference=1.0)


def _check_noise(setup: Setup) -> Iterator[Agreement]:
    key = NoiseKey(0, "certify", "self-test", "test", 0)
    black = torch.zeros(3, 32, 32)
    noisy = IntegerNoise(setup.device).noisy([Votes(key, 1, 0, 100)], [black], 0.5, 100).images
    levels = (255 * noisy).round().to(torch.int16).cpu().numpy()
    differs = hashlib.sha256(levels.astype("<i2").tobytes()).hexdigest() != EXACT_NOISE
    yield Agreement("exact noise, 100 draws of 3,072", float(differs), 0.0)


def _check_certification(setup: Setup) -> Iterator[Agreement]:
    images = load_images("fashion_mnist_sample", "data")
    purifier = OneShotPurifier(load_denoiser(DIFFUSION))
    local = LocalSmoothing(load_classifier(CLASSIFIER), 5, 0.25, images.info.image_shape)
    records = [
        from_line(line) for line in (FOLDER / "certification.jsonl").read_text().splitlines()
    ]
    expected = records[0].certificate
    classes = images.info.num_classes
    f = VoteFunction(purifier, local, expected.sigma, classes, 50, setup.precision)
    f = f.to(setup.device)
    # As runs do: fused, cast, compiled, by our own kernels where these can run.
    norms = choose_norms(None, f, setup.device, setup.compiled)
    prepare(f, setup.compiled, bool(norms))
    plan = FixedSampleSize(expected.n0, expected.n, expected.alpha)
    for record in records:
        expected = record.certificate
        key = NoiseKey(0, "certify", images.info.name, "test", record.index)
        image, noise = images[record.index].image, IntegerNoise(setup.device)
        certificate = run_plan(f, image, key, plan, noise=noise)
        moved = 0
        for name in ("selection_counts", "estimation_counts"):
            mine, theirs = dict(getattr(certificate, name)), dict(getattr(expected, name))
            moved += sum(abs(mine.get(k, 0) - theirs.get(k, 0)) for k in mine | theirs) // 2
        yield Agreement(
            f"votes of image {record.index} (radius {rounded_down(certificate.radius, 4)}, "
            f"stored {rounded_down(expected.radius, 4)})",
            moved / expected.votes,
            VOTES_TOLERANCE[setup.precision],
        )


def _compare(name: str, value: Tensor, expected: np.ndarray, tolerance: float) -> Agreement:
    difference = np.abs(value.float().cpu().numpy() - expected).max() / np.abs(expected).max()
    return Agreement(name, float(difference), tolerance)


def _golden(name: str) -> dict[str, np.ndarray]:
    with np.load(FOLDER / f"{name}.npz") as file:
        return dict(file)


def _small_denoiser(family: str, setup: Setup) -> OpenAIDenoiser:
    preset, overrides = SMALL_UNETS[family]
    denoiser = build_denoiser(preset, **overrides)
    denoiser.unet.load_state_dict(fill(denoiser.unet.state_dict()))
    setup.place(denoiser)
    return denoiser


def _filled_classifier(depth: int, setup: Setup) -> nn.Module:
    model = build_classifier(f"cifar_resnet{depth}", 10)
    model.load_state_dict(fill(model.state_dict()))
    return setup.place(model)
