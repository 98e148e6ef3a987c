import numpy as np
import pytest
import torch
from conftest import GOLDEN
from golden.fill import fill
from test_unet import SMALL
from torch import Tensor, nn

from diffsmooth.models import DiffusionSchedule, IdentityPurifier, OneShotPurifier, build_unet
from diffsmooth.models.presets import get_preset


@pytest.mark.parametrize("family", SMALL)
@pytest.mark.parametrize("sigma", [0.25, 0.5, 1.0])
def test_purified_images_equal_the_golden_ones(family: str, sigma: float) -> None:
    preset, overrides = SMALL[family]
    unet = build_unet(preset, **overrides).eval()
    unet.load_state_dict(fill(unet.state_dict()))
    golden = np.load(GOLDEN / f"unet_small_{family}.npz")
    if f"purified_{sigma}" not in golden:
        pytest.fail(f"no purified_{sigma} among {golden.files}")
    noisy = torch.from_numpy(golden["image"] + np.float32(sigma) * golden[f"noise_{sigma}"])
    with torch.inference_mode():
        purified = OneShotPurifier(unet, get_preset(preset).schedule)(noisy, sigma)
    np.testing.assert_allclose(purified.numpy(), golden[f"purified_{sigma}"], atol=2e-4)


class _KnowsTheNoise(nn.Module):
    """Stands in for a perfect U-Net: returns the epsilon of a known image."""

    def __init__(self, image: Tensor, schedule: DiffusionSchedule, t: int) -> None:
        super().__init__()
        self.image, self.abar = image, schedule.alphas_cumprod[t]

    def forward(self, x: Tensor, times: Tensor) -> Tensor:
        return (x - self.abar**0.5 * (2 * self.image - 1)) / (1 - self.abar) ** 0.5


@pytest.mark.parametrize("sigma", [0.1, 0.5, 1.0])
def test_perfect_noise_prediction_restores_the_image(sigma: float) -> None:
    generator = torch.Generator().manual_seed(0)
    schedule = DiffusionSchedule("cosine", 4000)
    image = torch.rand((1, 1, 8, 8), generator=generator)
    noisy = image + sigma * torch.randn((5, 1, 8, 8), generator=generator)
    unet = _KnowsTheNoise(image, schedule, schedule.timestep(sigma))
    purified = OneShotPurifier(unet, schedule)(noisy, sigma)  # type: ignore[arg-type]
    torch.testing.assert_close(purified, image.expand_as(purified), atol=1e-5, rtol=0)


def test_the_purified_image_lies_in_the_unit_range() -> None:
    torch.manual_seed(0)
    unet = build_unet("small-gray32", channel_mult=(1, 1), attention_resolutions=()).eval()
    noisy = 3 * torch.randn(2, 1, 8, 8)
    with torch.inference_mode():
        purified = OneShotPurifier(unet, DiffusionSchedule("cosine", 4000))(noisy, 1.0)
    assert purified.min() == 0
    assert purified.max() == 1


def test_no_purifier_changes_nothing() -> None:
    noisy = 3 * torch.randn(2, 1, 8, 8)
    assert IdentityPurifier()(noisy, 0.5) is noisy
