import math

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from diffsmooth.models import DiffusionSchedule
from diffsmooth.models.diffusion.loss import DiffusionLoss, discretized_log_likelihood, normal_kl
from diffsmooth.models.diffusion.schedule import ancestral_step

LEVELS = torch.linspace(-1, 1, 256, dtype=torch.float64)


class _Output(nn.Module):
    """Stands in for a U-Net: its output (B, 2 C, H, W) is a parameter."""

    def __init__(self, output: Tensor) -> None:
        super().__init__()
        self.output = nn.Parameter(output)

    def forward(self, x: Tensor, times: Tensor) -> Tensor:
        return self.output


def test_the_divergence_of_normals_is_that_of_torch() -> None:
    generator = torch.Generator().manual_seed(0)
    mean_q, log_q, mean_p, log_p = torch.randn(4, 100, generator=generator, dtype=torch.float64)
    q, p = Normal(mean_q, torch.exp(log_q / 2)), Normal(mean_p, torch.exp(log_p / 2))
    torch.testing.assert_close(normal_kl(mean_q, log_q, mean_p, log_p), kl_divergence(q, p))
    assert normal_kl(mean_q, log_q, mean_q, log_q).abs().max() == 0


@pytest.mark.parametrize("deviation", [1e-3, 0.01, 0.5, 20.0])
@pytest.mark.parametrize("mean", [-3.0, -1.0, 0.0021, 0.7, 1.5])
def test_the_levels_probabilities_are_those_of_the_normal_and_sum_to_one(
    mean: float, deviation: float
) -> None:
    means, deviations = torch.full_like(LEVELS, mean), torch.full_like(LEVELS, deviation)
    logs = discretized_log_likelihood(LEVELS, means, deviations.log())
    assert logs.exp().sum() == pytest.approx(1, abs=1e-12)
    edges = (LEVELS[1:] + LEVELS[:-1]) / 2
    cdf = norm.cdf(edges.numpy(), mean, deviation)
    np.testing.assert_allclose(logs.exp(), np.diff(cdf, prepend=0, append=1), atol=1e-12)


def test_improbable_levels_keep_finite_logarithms_and_gradients() -> None:
    images = LEVELS.float()
    mean = torch.linspace(50, -50, 256).requires_grad_()
    log_deviation = torch.linspace(-15, 5, 256).requires_grad_()
    logs = discretized_log_likelihood(images, mean, log_deviation)
    assert logs.isfinite().all()
    for gradient in torch.autograd.grad(logs.sum(), (mean, log_deviation)):
        assert gradient.isfinite().all()


@pytest.mark.parametrize(("t", "s"), [(2000, 1600), (900, 899), (3999, 3998)])
def test_the_step_is_bayes_rule_integrated_numerically(t: int, s: int) -> None:
    schedule = DiffusionSchedule("cosine", 4000)
    abar_t, abar_s = schedule.alphas_cumprod[[t, s]]
    x_0, x_t = 0.3, math.sqrt(abar_t) * 0.3 + 0.8 * math.sqrt(1 - abar_t)
    step = ancestral_step(schedule, t, s)
    deviation = math.exp(step.log_small / 2)
    guess = step.of_x_0 * x_0 + step.of_x_t * x_t
    x_s = np.linspace(guess - 12 * deviation, guess + 12 * deviation, 20_001)
    gain = math.sqrt(abar_t / abar_s)
    log_prior = -((x_s - math.sqrt(abar_s) * x_0) ** 2) / (2 * (1 - abar_s))
    log_likelihood = -((x_t - gain * x_s) ** 2) / (2 * (1 - gain**2))
    density = np.exp(log_prior + log_likelihood - (log_prior + log_likelihood).max())
    density /= density.sum()
    mean = (density * x_s).sum()
    assert mean == pytest.approx(guess, rel=1e-9)
    assert (density * (x_s - mean) ** 2).sum() == pytest.approx(deviation**2, rel=1e-6)


def _random(t: list[int], kind: str = "hybrid") -> tuple[DiffusionLoss, _Output, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    schedule = DiffusionSchedule("cosine", 4000)
    images = torch.randint(256, (len(t), 1, 4, 4), generator=generator) / 255
    epsilon = torch.randn(images.shape, generator=generator)
    noise = torch.randn((len(t), 2, 4, 4), generator=generator)
    unet = _Output(torch.cat([epsilon, torch.zeros_like(epsilon)], 1) + 0.1 * noise)
    return DiffusionLoss(schedule, kind), unet, images, epsilon  # type: ignore[arg-type]


def test_the_hybrid_loss_by_distributions_of_torch() -> None:
    """Each term of the bound from the two normals, t by t, in float64."""
    t = torch.tensor([1, 40, 2000, 3999])
    loss, unet, images, epsilon = _random(t.tolist())
    with torch.no_grad():
        terms = loss(unet, images, epsilon, t)  # type: ignore[arg-type]
    schedule = DiffusionSchedule("cosine", 4000)
    divergences = []
    for image, noise, output, now in zip(images, epsilon, unet.output, t.tolist(), strict=True):
        x_0, noise, output = 2 * image.double() - 1, noise.double(), output.detach().double()
        step = ancestral_step(schedule, now, now - 1)
        abar = schedule.alphas_cumprod[now]
        x_t = abar**0.5 * x_0 + (1 - abar) ** 0.5 * noise
        # Ho et al. 2020, equation 11, of both epsilons.
        beta, (guess, learned) = schedule.betas[now], output.split(1)
        true, mean = (
            (x_t - beta / (1 - abar) ** 0.5 * e) / (1 - beta) ** 0.5 for e in (noise, guess)
        )
        small, large = math.exp(step.log_small), math.exp(step.log_large)
        deviation = (large ** ((learned + 1) / 2) * small ** ((1 - learned) / 2)).sqrt()
        divergences.append(kl_divergence(Normal(true, small**0.5), Normal(mean, deviation)).mean())
    vlb = torch.stack(divergences).mean() / math.log(2)
    assert terms.vlb is not None
    assert terms.vlb.mean().item() == pytest.approx(vlb.item(), rel=1e-3)
    assert terms.simple.mean().item() == pytest.approx(
        (unet.output[:, :1] - epsilon).square().mean().item()
    )
    # 0.001 of the sum over 4000 timesteps.
    assert terms.total.mean().item() == pytest.approx(
        terms.simple.mean().item() + 4 * terms.vlb.mean().item()
    )


def test_the_last_step_is_the_decoder() -> None:
    loss, unet, images, epsilon = _random([0])
    terms = loss(unet, images, epsilon, torch.tensor([0]))  # type: ignore[arg-type]
    schedule = DiffusionSchedule("cosine", 4000)
    abar = schedule.alphas_cumprod[0]
    predicted, learned = unet.output.detach().double().split(1, dim=1)
    x_0 = 2 * images.double() - 1
    mean = x_0 + (1 / abar - 1) ** 0.5 * (epsilon - predicted)
    small = ancestral_step(schedule, 1, 0).log_small  # of the next step: its own is of variance 0
    log_variance = small + (learned + 1) / 2 * (math.log(schedule.betas[0]) - small)
    wanted = -discretized_log_likelihood(x_0, mean, log_variance / 2).mean() / math.log(2)
    assert terms.vlb is not None
    assert terms.vlb.mean().item() == pytest.approx(wanted.item(), rel=1e-3)


def test_the_bound_trains_the_variance_alone() -> None:
    loss, unet, images, epsilon = _random([0, 1, 2000])
    terms = loss(unet, images, epsilon, torch.tensor([0, 1, 2000]))  # type: ignore[arg-type]
    assert terms.vlb is not None
    (gradient,) = torch.autograd.grad(terms.vlb.mean(), unet.output, retain_graph=True)
    assert gradient[:, 0].abs().max() == 0
    assert gradient[:, 1].abs().amin(dim=(1, 2)).min() > 0
    (gradient,) = torch.autograd.grad(terms.simple.mean(), unet.output)
    assert gradient[:, 0].abs().min() > 0
    assert gradient[:, 1].abs().max() == 0


def test_the_simple_loss_ignores_the_second_half() -> None:
    loss, unet, images, epsilon = _random([5, 6], kind="simple")
    terms = loss(unet, images, epsilon, torch.tensor([5, 6]))  # type: ignore[arg-type]
    assert terms.vlb is None
    assert terms.total is terms.simple
    (gradient,) = torch.autograd.grad(terms.total.mean(), unet.output)
    assert gradient[:, 1].abs().max() == 0
