import numpy as np
import pytest
import torch
from torch import nn

from diffsmooth.golden import FOLDER
from diffsmooth.golden.fill import fill
from diffsmooth.models import LocalSmoothing, OneShotPurifier, build_classifier, build_unet
from diffsmooth.models.diffusion.presets import get_preset


@pytest.mark.parametrize(
    ("sigma", "local", "m"), [(0.25, 0.12, 5), (0.5, 0.25, 5), (0.5, 0.26, 3), (1.0, 0.25, 1)]
)
def test_the_pipeline_equals_the_golden_one(sigma: float, local: float, m: int) -> None:
    golden = np.load(FOLDER / "pipeline_small.npz")
    unet = build_unet("improved-cifar10", model_channels=32, num_res_blocks=1).eval()
    unet.load_state_dict(fill(unet.state_dict()))
    classifier = build_classifier("cifar_resnet20", 10).eval()
    classifier.load_state_dict(fill(classifier.state_dict()))
    purifier = OneShotPurifier(unet, get_preset("improved-cifar10").schedule)
    noise = torch.from_numpy(golden["local_noise"][:m])
    smoothing = LocalSmoothing(classifier, m, local, noise=noise)
    noisy = torch.from_numpy(golden["x"] + np.float32(sigma) * golden["noise"])
    with torch.inference_mode():
        confidence = smoothing(purifier(noisy, sigma)).numpy()
    expected = golden[f"confidence_sigma{sigma}_local{local}_m{m}"]
    np.testing.assert_allclose(confidence, expected, atol=2e-4)
    assert (confidence.argmax(1) == expected.argmax(1)).all()


def test_the_noise_is_the_published_codes_draw() -> None:
    smoothing = LocalSmoothing(nn.Identity(), m=3, image_shape=(1, 2, 2))
    expected = torch.randn(3, 1, 2, 2, generator=torch.Generator().manual_seed(42))
    torch.testing.assert_close(smoothing.noise, expected, rtol=0, atol=0)
    assert "noise" not in smoothing.state_dict()


def test_the_confidence_is_the_mean_softmax_over_the_same_copies_for_every_image() -> None:
    torch.manual_seed(0)
    classifier = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    smoothing = LocalSmoothing(classifier, m=4, sigma_local=0.5, image_shape=(1, 2, 2))
    images = torch.rand(6, 1, 2, 2)
    with torch.no_grad():
        batched = smoothing(images)
        for image, confidence in zip(images, batched, strict=True):
            by_hand = [classifier((image + 0.5 * n)[None]).softmax(1)[0] for n in smoothing.noise]
            torch.testing.assert_close(confidence, torch.stack(by_hand).mean(0))


def test_arguments_out_of_range() -> None:
    with pytest.raises(ValueError, match="m must be at least 1, got 0"):
        LocalSmoothing(nn.Identity(), m=0)
    with pytest.raises(ValueError, match="sigma_local must be >= 0"):
        LocalSmoothing(nn.Identity(), sigma_local=-0.1)
    with pytest.raises(ValueError, match="noise must be"):
        LocalSmoothing(nn.Identity(), m=2, noise=torch.zeros(1, 3, 32, 32))
