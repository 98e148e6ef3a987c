"""The rebuilt published loop computes what our engine computes."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from diffsmooth.golden.fill import fill
from diffsmooth.models import (
    IdentityPurifier,
    LocalSmoothing,
    OneShotPurifier,
    build_classifier,
    build_denoiser,
)
from diffsmooth.models.classifiers.dataset_info import CIFAR10, FASHION_MNIST, DatasetInfo
from diffsmooth.models.diffusion.openai import OpenAIDenoiser
from diffsmooth.models.diffusion.schedule import ancestral_step
from diffsmooth.models.diffusion.unet import UNet
from diffsmooth.models.smoothing.precision import (
    Numerics,
    current_numerics,
    fix_numerics,
    numerics_of,
)
from diffsmooth.models.smoothing.vote_function import VoteFunction
from diffsmooth.pipeline.bench_process import _time_published
from diffsmooth.pipeline.published_loop import PublishedLoop, published_numerics
from diffsmooth.pipeline.self_test import SMALL_UNETS

UNETS = {**SMALL_UNETS, "variance not learned": ("small-gray32", {})}


def _classifier(info: DatasetInfo) -> nn.Sequential:
    classifier = build_classifier("cifar_resnet8", 10, dataset=info)
    classifier.load_state_dict(fill(classifier.state_dict()))
    return classifier.eval()


@torch.no_grad()
def _spread_votes(classifier: nn.Sequential, images: Tensor) -> None:
    """Standardises the logits over `images`, so that no class takes all votes."""
    logits = classifier(images)
    fc = classifier[1].fc
    fc.weight /= logits.std(dim=0)[:, None]
    fc.bias.copy_((fc.bias - logits.mean(dim=0)) / logits.std(dim=0))


def _denoiser(name: str) -> OpenAIDenoiser:
    preset, overrides = UNETS[name]
    return _filled(build_denoiser(preset, **overrides).eval())


def _filled(denoiser: OpenAIDenoiser) -> OpenAIDenoiser:
    denoiser.unet.load_state_dict(fill(denoiser.unet.state_dict()))
    return denoiser


@pytest.mark.parametrize("name", UNETS)
def test_purified_images_and_answers_equal_ours(name: str) -> None:
    torch.manual_seed(1)
    denoiser = _denoiser(name)
    unet = denoiser.unet
    info = FASHION_MNIST if unet.config.in_channels == 1 else CIFAR10
    shape, classifier = info.image_shape, _classifier(info)
    purifier = OneShotPurifier(denoiser)
    local = LocalSmoothing(classifier, 3, 0.25, shape)
    ours = VoteFunction(purifier, local, 0.5, 10, copy=False)
    noisy = torch.rand(shape) + ours.f.noise_level * torch.randn(8, *shape)
    with torch.no_grad():
        _spread_votes(classifier, ours.f.purify(noisy) + 0.25 * torch.randn(8, *shape))
    loop = PublishedLoop(ours.f)
    with torch.inference_mode():
        torch.testing.assert_close(loop.purify(noisy), ours.f.purify(noisy), rtol=0, atol=1e-4)
        confidence = ours.f(noisy)
        torch.testing.assert_close(loop.confidence(noisy), confidence, rtol=0, atol=1e-4)
        answers = confidence.argmax(dim=1)
        assert len(answers.unique()) > 1
        assert loop.confidence(noisy).argmax(dim=1).equal(answers)


@pytest.mark.parametrize("name", UNETS)
def test_the_sample_that_goes_unused_is_an_ancestral_step(name: str) -> None:
    denoiser = _denoiser(name)
    unet, schedule = denoiser.unet, denoiser.schedule
    channels, t = unet.config.in_channels, schedule.timestep(0.5)
    local = LocalSmoothing(nn.Linear(1, 1), 1, 0.0, (channels, 32, 32))
    loop = PublishedLoop(VoteFunction(OneShotPurifier(denoiser), local, 0.5, 10))
    assert loop.unet is not None
    torch.manual_seed(1)
    x_t = torch.randn(2, channels, 32, 32)
    with torch.inference_mode():
        output = unet(x_t, torch.tensor([schedule.network_time(t)]))
        sample, x_0 = loop.diffusion.sample(loop.unet, x_t, torch.tensor([t, t]))
    torch.manual_seed(1)
    torch.randn_like(x_t)
    step = ancestral_step(schedule, t, t - 1)
    learned = torch.ones(()) if name == "variance not learned" else output[:, channels:]
    deviation = torch.exp(0.5 * torch.as_tensor(step.log_variance(learned)))
    expected = step.mean(x_0, x_t) + deviation * torch.randn_like(x_t)
    torch.testing.assert_close(sample, expected, rtol=0, atol=1e-4)


def test_wide_networks_become_contiguous_and_ours_stay_as_they_are() -> None:
    denoiser = build_denoiser("improved-cifar10", num_res_blocks=1, channel_mult=(1, 1)).eval()
    unet, classifier = _filled(denoiser).unet, _classifier(CIFAR10)
    local = LocalSmoothing(classifier, 5, 0.25, (3, 32, 32))
    loop = PublishedLoop(VoteFunction(OneShotPurifier(denoiser), local, 0.5, 10, copy=False))
    assert loop.unet is not None
    assert all(p.is_contiguous() for p in loop.unet.parameters())
    assert not all(p.is_contiguous() for p in unet.parameters())
    assert type(unet) is UNet
    torch.manual_seed(1)
    noisy = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        purified = OneShotPurifier(denoiser)(noisy, 0.5)
    torch.testing.assert_close(loop.purify(noisy), purified, rtol=0, atol=1e-4)


@pytest.mark.parametrize("purify", [False, True], ids=["Cohen", "diffusion denoised"])
def test_votes_on_the_same_noise_equal_ours(purify: bool) -> None:
    shape, classifier = FASHION_MNIST.image_shape, _classifier(FASHION_MNIST)
    purifier = IdentityPurifier()
    if purify:
        purifier = OneShotPurifier(_denoiser("variance not learned"))
    local = LocalSmoothing(classifier, 1, 0.0, shape)
    ours = VoteFunction(purifier, local, 0.5, 10, batch=20, copy=False)
    torch.manual_seed(2)
    image = torch.rand(shape)
    with torch.no_grad():
        _spread_votes(
            classifier, ours.f.purify(image + ours.f.noise_level * torch.randn(20, *shape))
        )
    loop = PublishedLoop(ours.f)
    torch.manual_seed(3)
    counts = loop.count_votes(image, 50)
    torch.manual_seed(3)
    expected = np.zeros(10, dtype=int)
    for size in (20, 20, 10):
        noise = torch.randn(size, *shape)
        if purify:
            torch.randn(size, *shape)  # the sampling step's, which goes unused
        with torch.inference_mode():
            answers = ours.f(image + ours.f.noise_level * noise).argmax(dim=1)
        expected += np.bincount(answers, minlength=10)
    assert counts.tolist() == expected.tolist()
    assert counts.max() < 50


class FlagsInside:
    """Stands for the published loop, and keeps the switches that it finds."""

    def __init__(self, error: Exception | None = None) -> None:
        self.found: list[Numerics] = []
        self.error = error

    def count_votes(self, image: Tensor, votes: int) -> np.ndarray:
        cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
        self.found.append(
            Numerics(cudnn.allow_tf32, matmul.allow_tf32, cudnn.deterministic, cudnn.benchmark)
        )
        if self.error is not None:
            raise self.error
        return np.array([votes])


@pytest.mark.parametrize(("dataset", "timed"), [("cifar10", False), ("imagenet", True)])
def test_it_is_measured_under_its_authors_switches_and_ours_come_back(
    dataset: str, timed: bool
) -> None:
    fix_numerics()
    ours, loop = current_numerics(), FlagsInside()
    assert ours == Numerics(False, False, deterministic=True, timed_choice=False)
    fix_numerics(kernels="timed")
    assert current_numerics() == ours._replace(timed_choice=True)
    fix_numerics()
    image, device = torch.zeros(1, 4, 4), torch.device("cpu")
    published = published_numerics(dataset)
    seconds, numerics = _time_published(loop, image, 7, device, published)  # type: ignore[arg-type]
    # PyTorch's defaults, but for the timed choice, which is ImageNet's.
    expected = Numerics(True, False, deterministic=False, timed_choice=timed)
    assert loop.found == [numerics] == [expected]
    assert seconds >= 0
    assert current_numerics() == ours
    failing = FlagsInside(RuntimeError("no memory"))
    with pytest.raises(RuntimeError, match="no memory"):
        _time_published(failing, image, 7, device, published)  # type: ignore[arg-type]
    assert failing.found == [expected]
    assert current_numerics() == ours


def test_the_published_switches_are_those_of_a_fresh_pytorch() -> None:
    code = (
        "from diffsmooth.models.smoothing.precision import current_numerics as now; print(*now())"
    )
    fresh = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert fresh.stdout.split() == [str(value) for value in published_numerics("cifar10")]


def test_switches_are_turned_one_by_one() -> None:
    fix_numerics()
    for place in range(4):
        wanted = Numerics(*(i == place for i in range(4)))
        with numerics_of(wanted):
            assert current_numerics() == wanted
            assert f"{wanted._fields[place].replace('_', ' ')} on" in str(wanted)
            assert str(wanted).count("off") == 3
