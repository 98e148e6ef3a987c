"""Networks that nobody here has written: they vote as they are, or are refused in one line."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import diffsmooth
from diffsmooth.models.smoothing.finite import check_finite_weights
from diffsmooth.stats.errors import UserError

SHAPE = (3, 8, 8)
PLAN = diffsmooth.FixedSampleSize(n0=10, n=50)
IMAGES = np.random.default_rng(0).integers(0, 256, (3, *SHAPE), dtype=np.uint8)


def smoothed(network: nn.Module, sigma: float = 0.5) -> diffsmooth.SmoothedClassifier:
    return diffsmooth.SmoothedClassifier(
        network, None, sigma, image_shape=SHAPE, num_classes=10, batch=20
    )


class Viewing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 6, 3), nn.Linear(216, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.relu(self.conv(x)).view(-1, 216))


class Strided(nn.Module):
    """Reads its input as it lies in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(192, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.as_strided(x, (len(x), 192), (192, 1)))


class WithBuffers(nn.Module):
    def __init__(self, **buffers: Tensor) -> None:
        super().__init__()
        self.fc, self.scale = nn.Linear(192, 10), nn.Parameter(torch.ones(1, 1, 1, 1, 1))
        for name, buffer in buffers.items():
            self.register_buffer(name, buffer)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.flatten(1)) * self.scale.squeeze()


ODD = {
    "complex": torch.ones(3, dtype=torch.complex64),
    "words": torch.ones(3, dtype=torch.uint16),
    "eighths": torch.ones(3).to(torch.float8_e4m3fn),
    "mask": torch.tensor([0.0, -torch.inf]),
}


@pytest.mark.parametrize(
    "network",
    [
        Viewing(),
        torch.jit.trace(Viewing().requires_grad_(False), torch.rand(2, *SHAPE)),
        Strided(),
        WithBuffers(**ODD),
    ],
    ids=["view", "traced view", "as_strided", "odd tensors"],
)
def test_it_votes_as_it_is(network: nn.Module) -> None:
    g, x = smoothed(network), torch.rand(4, *SHAPE)
    assert torch.allclose(g.f(x), network.eval()(x).softmax(-1), atol=1e-6)
    assert len(diffsmooth.certify(g, IMAGES, [0, 1, 2], plan=PLAN, progress=False)) == 3


def test_networks_of_known_packages_see_channels_last() -> None:
    g = smoothed(nn.Sequential(nn.Conv2d(3, 6, 3), nn.Flatten(), nn.Linear(216, 10)))
    assert g.f.local_smoothing.layout == torch.channels_last


class Lost(nn.Module):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def forward(self, x: Tensor) -> Tensor:
        raise self.error


@pytest.mark.parametrize("error", [KeyError("logits"), AttributeError("size"), NameError("y")])
def test_what_its_code_raises_is_said_in_one_line(error: Exception) -> None:
    with pytest.raises(UserError, match="the networks do not run on noisy images: "):
        diffsmooth.certify(smoothed(Lost(error)), IMAGES, [0, 1, 2], plan=PLAN, progress=False)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (nn.Sequential(nn.Flatten(), nn.LazyLinear(10)), "is lazy and has no weights yet"),
        (WithBuffers(eye=torch.eye(4).to_sparse()), "holds a sparse tensor"),
    ],
)
def test_tensors_that_cannot_vote_are_named(network: nn.Module, message: str) -> None:
    with pytest.raises(UserError, match=message):
        smoothed(network)


def test_a_complex_buffer_that_is_not_finite_is_named() -> None:
    with pytest.raises(UserError, match="f: turn has 1 of 4 numbers that are not finite"):
        check_finite_weights(WithBuffers(turn=torch.tensor([1, complex(0, torch.nan)])), "f")


def test_sigma_is_set_once_since_the_noise_is() -> None:
    with pytest.raises(AttributeError, match="sigma"):
        smoothed(Viewing()).f.sigma = 1.0


def test_noise_that_is_smaller_than_a_grey_level_is_none() -> None:
    g = smoothed(Viewing(), 1e-4)
    results = diffsmooth.certify(g, IMAGES, [0, 1, 2], plan=PLAN, progress=False)
    assert (results.radius == results.max_radius).all()
