"""The certification loop as the field publishes it: what `bench` measures our speed against.

Rebuilt, in our own words, from what these repositories do: javyduck/DiffSmooth, on top of
openai/improved-diffusion and openai/guided-diffusion, and locuslab/smoothing. It computes what our
own engine computes, on the same weights, in the published order of operations: float32, contiguous
memory, one classifier call a local copy, a whole sampling step of which x_0 alone is used.
"""

import numpy as np
import torch
from torch import Tensor, nn

from diffsmooth.models import DiffusionSchedule
from diffsmooth.models.diffusion.unet import SiLU
from diffsmooth.models.smoothing.precision import Numerics
from diffsmooth.models.smoothing.vote_function import VoteFunction
from diffsmooth.pipeline.published_forms import (
    CLASSIFIER_FORMS,
    UNET_FORMS,
    PublishedSiLU,
    published,
)


def published_numerics(dataset: str) -> Numerics:
    """The switches under which the published code runs.

    PyTorch's defaults, but that cuDNN times its kernels for ImageNet's classifiers.

    Source: locuslab/smoothing code/architectures.py and javyduck/DiffSmooth architectures.py set
    `cudnn.benchmark` for imagenet; no other switch is set in them, nor in certify.py or core.py of
    either, nor in DiffSmooth's cifar_ddpm.py and imagenet_gdm.py.
    """
    return Numerics(
        tf32_convolutions=True,
        tf32_products=False,
        deterministic=False,
        timed_choice=dataset == "imagenet",
    )


class PublishedLoop:
    """Counts votes as the published code does.

    Args:
        f: its networks are copied, and run in their published forms: an `OpenAIDenoiser`'s U-Net,
            if there is one (Cohen's loop has none), and a CIFAR ResNet; other classifiers run as
            they are. Without local noise there is no local smoothing.
    """

    def __init__(self, f: VoteFunction) -> None:
        self.unet: nn.Module | None = None
        denoiser = getattr(f.purifier, "denoiser", None)
        if denoiser is not None:
            unet, schedule = denoiser.unet, denoiser.schedule
            forms = UNET_FORMS
            if not unet.config.resblock_updown:
                forms = {**forms, nn.SiLU: PublishedSiLU, SiLU: PublishedSiLU}
            self.unet = published(unet, forms)
            self.diffusion = PublishedDiffusion(schedule)
            self.timestep = schedule.timestep(f.sigma)
        local = f.local_smoothing
        self.classifier = published(local.classifier, CLASSIFIER_FORMS)
        self.device, self.sigma = f.device, f.sigma
        self.num_classes, self.batch = f.num_classes, f.batch
        self.local_noise = local.noise * local.sigma_local if local.sigma_local else None

    @torch.no_grad()
    def count_votes(self, image: Tensor, votes: int) -> np.ndarray:
        """Votes a class, int (K,), of `image` (C, H, W) in [0, 1], under fresh noise."""
        image = image.to(self.device)
        counts = np.zeros(self.num_classes, dtype=int)
        for start in range(0, votes, self.batch):
            images = image.repeat((min(self.batch, votes - start), 1, 1, 1))
            noise = torch.randn_like(images) * self.sigma
            answers = self.confidence(images + noise).argmax(dim=1)
            for answer in answers.cpu().numpy():
                counts[answer] += 1
        return counts

    @torch.no_grad()
    def confidence(self, noisy: Tensor) -> Tensor:
        """Mean softmax (B, K) of noisy images (B, C, H, W); logits without local smoothing."""
        images = self.purify(noisy)
        if self.local_noise is None:
            return self.classifier(images)
        total = torch.zeros((), device=self.device)
        for noise in self.local_noise:
            total = total + torch.softmax(self.classifier(images + noise[None]), dim=1)
        return total / len(self.local_noise)

    @torch.no_grad()
    def purify(self, noisy: Tensor) -> Tensor:
        """Images in [0, 1] of noisy ones (B, C, H, W), which come back where there is no U-Net."""
        if self.unet is None:
            return noisy
        t = torch.tensor([self.timestep]).repeat(len(noisy)).to(noisy.device)
        x_t = float(self.diffusion.root_abar[self.timestep]) * (noisy * 2 - 1)
        _, x_0 = self.diffusion.sample(self.unet, x_t, t)
        return (x_0 + 1) / 2


class PublishedDiffusion:
    """One ancestral sampling step, with a timestep for each sample of a batch.

    Coefficients are float64 arrays over all timesteps, sent to the device at each use.
    """

    def __init__(self, schedule: DiffusionSchedule) -> None:
        self.schedule = schedule
        self.betas = schedule.betas
        self.timesteps = list(range(schedule.steps))
        abar = schedule.alphas_cumprod
        before = np.append(1.0, abar[:-1])
        self.root_abar = np.sqrt(abar)
        self.root_inverse = np.sqrt(1 / abar)
        self.root_inverse_less_one = np.sqrt(1 / abar - 1)
        self.posterior_variance = self.betas * (1 - before) / (1 - abar)
        # The posterior's variance is 0 at t = 0.
        self.posterior_log_variance = np.log(
            np.append(self.posterior_variance[1], self.posterior_variance[1:])
        )
        self.of_x_0 = self.betas * np.sqrt(before) / (1 - abar)
        self.of_x_t = (1 - before) * np.sqrt(1 - self.betas) / (1 - abar)

    def sample(self, unet: nn.Module, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """x_{t-1}, of which the loop makes no use, and x_0 in [-1, 1]; each (B, C, H, W).

        x_t is (B, C, H, W), in [-1, 1] but for its noise, and t int64 (B,).
        """
        output = unet(x_t, self.network_times(t))
        channels = x_t.shape[1]
        # What is computed without being used is published so, and takes its time.
        if output.shape[1] == channels:  # the variance is not learned: the larger of the two
            variances = np.append(self.posterior_variance[1], self.betas[1:])
            _ = _of_timesteps(variances, t, x_t)
            log_variance = _of_timesteps(np.log(variances), t, x_t)
            epsilon = output
        else:
            epsilon, learned = output.split(channels, dim=1)
            small = _of_timesteps(self.posterior_log_variance, t, x_t)
            large = _of_timesteps(np.log(self.betas), t, x_t)
            share = (learned + 1) / 2
            log_variance = share * large + (1 - share) * small
            _ = torch.exp(log_variance)
        x_0 = (
            _of_timesteps(self.root_inverse, t, x_t) * x_t
            - _of_timesteps(self.root_inverse_less_one, t, x_t) * epsilon
        ).clamp(-1, 1)
        mean = _of_timesteps(self.of_x_0, t, x_t) * x_0 + _of_timesteps(self.of_x_t, t, x_t) * x_t
        _ = _of_timesteps(self.posterior_variance, t, x_t)
        _ = _of_timesteps(self.posterior_log_variance, t, x_t)
        noise = torch.randn_like(x_t)
        nonzero = (t != 0).float().view(-1, 1, 1, 1)
        return mean + nonzero * torch.exp(0.5 * log_variance) * noise, x_0

    def network_times(self, t: Tensor) -> Tensor:
        """What the network is fed for t, (B,): through a table of the timesteps, made anew."""
        table = torch.tensor(self.timesteps, device=t.device, dtype=t.dtype)
        return table[t].float() * self.schedule.network_time(1)


def _of_timesteps(values: np.ndarray, t: Tensor, like: Tensor) -> Tensor:
    """values[t] in float32, expanded to the shape of `like` (B, C, H, W)."""
    of_t = torch.from_numpy(values).to(t.device)[t].float()
    return of_t[:, None, None, None].expand(like.shape)
