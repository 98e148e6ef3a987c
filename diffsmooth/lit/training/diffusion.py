"""Training of the noise-prediction U-Net."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torch.nn import functional as F

from diffsmooth.lit.data.images import Batch
from diffsmooth.lit.data.sources import describe_dataset
from diffsmooth.lit.training.augment import random_flip
from diffsmooth.lit.training.learning_rate import LearningRate
from diffsmooth.lit.training.module import TrainingModule
from diffsmooth.models.presets import build_unet, get_preset
from diffsmooth.models.purifiers import OneShotPurifier
from diffsmooth.models.weights import CheckpointMetadata


def default_adam(parameters: Iterable[Any]) -> torch.optim.Optimizer:
    """Adam, lr 1e-4 (Nichol & Dhariwal 2021)."""
    return torch.optim.Adam(parameters, lr=1e-4)


class DiffusionTraining(TrainingModule):
    """Trains a U-Net to predict epsilon: E |eps - eps_theta(sqrt(abar) x + sqrt(1-abar) eps, t)|^2.

    Source: Ho et al. 2020, equation 14.

    Args:
        preset: the architecture and its schedule, see `models/presets.py`.
        overrides: fields of the architecture to change.
        dataset: as in `ImageDataModule`; a word in the checkpoint, for who reads it later. train.py
            takes it from there.
        max_sigma: largest noise level, [0, 1] pixel units, that the network must denoise: timesteps
            are drawn uniformly up to that level's. None trains on the whole schedule.
        flip: random horizontal flips.
        optimizer: any torch optimiser.
        learning_rate: its schedule.
        seed: of the noise, the timesteps and the flips.
        psnr_sigmas: noise levels, <= max_sigma, at which validation measures one-shot denoising.

    Raises:
        ValueError: unknown preset or field; max_sigma <= 0 or beyond the schedule; a psnr_sigma
            beyond max_sigma.
    """

    def __init__(
        self,
        preset: str = "small-gray32",
        overrides: dict[str, Any] | None = None,
        dataset: str = "fashion_mnist",
        max_sigma: float | None = 1.0,
        flip: bool = True,
        optimizer: OptimizerCallable = default_adam,
        learning_rate: LearningRate = LearningRate("constant"),
        seed: int = 0,
        psnr_sigmas: tuple[float, ...] = (0.25, 0.5, 1.0),
    ) -> None:
        super().__init__(optimizer, learning_rate, seed)
        self._preset = preset
        self._overrides = overrides or {}
        self._dataset = describe_dataset(dataset).name
        self._max_sigma = max_sigma
        self._flip = flip
        self._psnr_sigmas = tuple(psnr_sigmas)
        schedule = get_preset(preset).schedule
        self._timesteps = schedule.steps if max_sigma is None else schedule.timestep(max_sigma) + 1
        for sigma in self._psnr_sigmas:
            if schedule.timestep(sigma) >= self._timesteps:
                raise ValueError(f"psnr_sigmas: {sigma} is beyond max_sigma {max_sigma}")
        self.unet = build_unet(preset, **self._overrides)
        self._schedule = schedule
        self._purifier = [OneShotPurifier(self.unet, schedule)]  # in a list: no second set of keys

    @property
    def network(self) -> nn.Module:
        return self.unet

    def metadata(self) -> CheckpointMetadata:
        return CheckpointMetadata(
            kind="unet",
            dataset=self._dataset,
            preset=self._preset,
            overrides=self._overrides,
            max_sigma=self._max_sigma,
        )

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        generator = self.generator(batch_idx)
        images = random_flip(batch.image, generator) if self._flip else batch.image
        loss = self._epsilon_loss(images, generator)
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._evaluate(batch, batch_idx, "val")

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self._evaluate(batch, batch_idx, "test")

    def _epsilon_loss(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Mean squared error of epsilon for images (B, C, H, W) in [0, 1] at random timesteps."""
        device = images.device
        t = torch.randint(self._timesteps, (len(images),), device=device, generator=generator)
        epsilon = torch.randn(images.shape, device=device, generator=generator)
        abar = torch.from_numpy(self._schedule.alphas_cumprod.astype(np.float32)).to(device)[t]
        abar = abar.view(-1, 1, 1, 1)
        x_t = abar.sqrt() * (2 * images - 1) + (1 - abar).sqrt() * epsilon
        times = t * (1000.0 / self._schedule.steps)
        predicted = self.unet(x_t, times)[:, : images.shape[1]]
        return F.mse_loss(predicted.float(), epsilon)

    def _evaluate(self, batch: Batch, batch_idx: int, split: str) -> None:
        generator = self.generator(batch_idx)
        images = batch.image
        loss = self._epsilon_loss(images, generator)
        self.log(f"{split}/loss", loss, prog_bar=True, sync_dist=True)
        for sigma in self._psnr_sigmas:
            noise = torch.randn(images.shape, device=images.device, generator=generator)
            purified = self._purifier[0](images + sigma * noise, sigma)
            mse = (purified - images).square().mean(dim=(1, 2, 3))
            psnr = (-10 * torch.log10(mse.clamp_min(1e-10))).mean()
            self.log(f"{split}/psnr_sigma_{sigma:g}", psnr, prog_bar=True, sync_dist=True)
