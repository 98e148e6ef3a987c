"""Training of the noise-prediction U-Net."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn

from diffsmooth.lit.data.images import Batch
from diffsmooth.lit.data.sources import describe_dataset
from diffsmooth.lit.training.learning_rate import LearningRate
from diffsmooth.lit.training.module import TrainingModule
from diffsmooth.lit.training.pictures import denoised_grid, samples_grid
from diffsmooth.lit.training.randomness import PICTURES, random_flip, step_generator
from diffsmooth.models.checkpoints.weights import Checkpoint, CheckpointMetadata
from diffsmooth.models.classifiers.dataset_info import DatasetInfo
from diffsmooth.models.diffusion.loss import DiffusionLoss, LossKind, LossTerms
from diffsmooth.models.diffusion.openai import build_denoiser
from diffsmooth.models.diffusion.presets import get_preset
from diffsmooth.models.smoothing.purifiers import MultiStepPurifier, OneShotPurifier
from diffsmooth.shown_text import LONGEST_WORD
from diffsmooth.stats.errors import UserError


def default_adam(parameters: Iterable[Any]) -> torch.optim.Optimizer:
    """Adam, lr 1e-4 (Nichol & Dhariwal 2021)."""
    return torch.optim.Adam(parameters, lr=1e-4)


class DiffusionTraining(TrainingModule):
    """Trains a U-Net to predict epsilon, and perhaps the variance of the reverse process.

    The losses are those of `DiffusionLoss`, at timesteps drawn uniformly. Each validation shows
    one-shot denoised images (`val/denoised`; rows: the originals, then noisy and denoised at each
    of psnr_sigmas), and with max_sigma None images generated from noise (`val/samples`); see
    `LogPictures`.

    Source: Ho et al. 2020, algorithm 1; Nichol & Dhariwal 2021, section 3.1.

    Args:
        preset: the architecture and its schedule, see `models/diffusion/presets.py`.
        overrides: fields of the architecture to change.
        dataset: as in `ClassifierTraining`; a word in the checkpoint, for who reads it later.
        max_sigma: largest noise level, [0, 1] pixel units, that the network must denoise: timesteps
            are drawn up to that level's only, and the network cannot generate images from noise.
            None trains on the whole schedule.
        loss: simple: of epsilon alone; hybrid: with the variance learned, which needs twice as many
            output channels as input channels.
        flip: random horizontal flips.
        optimizer: any torch optimiser.
        learning_rate: its schedule.
        seed: the seed of the noise, the timesteps and the flips.
        psnr_sigmas: noise levels, <= max_sigma, at which validation measures one-shot denoising.
        sample_steps: steps of the reverse process for the generated images, at least 1.
        compile: compile the U-Net for the training's steps.

    Raises:
        ValueError: unknown preset or field; max_sigma <= 0 or beyond the schedule; a psnr_sigma
            beyond max_sigma; an unknown loss, or hybrid without the channels for it;
            sample_steps < 1.
    """

    NEEDED = ("preset", "dataset")
    SHOWN = ("sample_steps",)

    def __init__(
        self,
        preset: str = "small-gray32",
        overrides: dict[str, Any] | None = None,
        dataset: str | DatasetInfo = "fashion_mnist",
        max_sigma: float | None = 1.0,
        loss: LossKind = "simple",
        flip: bool = True,
        optimizer: OptimizerCallable = default_adam,
        learning_rate: LearningRate = LearningRate("constant"),
        seed: int = 0,
        psnr_sigmas: tuple[float, ...] = (0.25, 0.5, 1.0),
        sample_steps: int = 50,
        compile: bool = False,
    ) -> None:
        losses = ("loss", "loss_simple", "loss_vlb") if loss == "hybrid" else ("loss",)
        measures = (*losses, *(_psnr(sigma) for sigma in psnr_sigmas))
        super().__init__(optimizer, learning_rate, seed, measures, compile)
        info = describe_dataset(dataset)
        self.hparams.dataset = info._asdict()
        schedule = get_preset(preset).schedule
        self._timesteps = schedule.steps if max_sigma is None else schedule.timestep(max_sigma) + 1
        for sigma in psnr_sigmas:
            if schedule.timestep(sigma) >= self._timesteps:
                raise ValueError(f"psnr_sigmas: {sigma} is beyond max_sigma {max_sigma}")
        denoiser = build_denoiser(preset, **(overrides or {}))
        self.unet = denoiser.unet
        channels, outputs = self.unet.config.in_channels, self.unet.config.out_channels
        given = info.image_shape[0]
        if channels != given:
            raise ValueError(
                f"{preset} takes images of {channels} channels, {info.name} has {given}"
            )
        try:
            denoiser.check_images(info.image_shape)
        except ValueError as error:  # and what a certification could do about it
            raise ValueError(f"{preset} {str(error).partition(': --pad')[0]}") from error
        if loss == "hybrid" and outputs != 2 * channels:
            raise ValueError(
                f"loss hybrid learns the variance: out_channels must be {2 * channels}, twice the "
                f"in_channels, got {outputs} (set it in overrides)"
            )
        self._loss = DiffusionLoss(schedule, loss)
        # In a tuple: no second set of the U-Net's keys.
        self._purifiers = (
            OneShotPurifier(denoiser),
            MultiStepPurifier(denoiser, steps=sample_steps),
        )

    @property
    def network(self) -> nn.Module:
        return self.unet

    def metadata(self) -> CheckpointMetadata:
        return CheckpointMetadata(
            kind="unet",
            dataset=self.hparams.dataset["name"][:LONGEST_WORD],
            preset=self.hparams.preset,
            overrides=self.hparams.overrides or {},
            max_sigma=self.hparams.max_sigma,
        )

    def check_evaluated(self, checkpoint: Checkpoint) -> None:
        told, mine = checkpoint.metadata, self.metadata()
        if told.preset and (told.preset, told.overrides) != (mine.preset, mine.overrides):
            raise UserError(
                f"{checkpoint.path} is a U-Net {told.preset} {told.overrides or ''}, asked for is "
                f"{mine.preset} {mine.overrides or ''}: --model.init_args.preset and .overrides "
                "say which one"
            )

    def training_step(self, batch: Batch | Sequence[Tensor], batch_idx: int) -> Tensor:
        batch, generator = self.batch_of(batch, batch_idx), self.generator()
        images = random_flip(batch.image, generator) if self.hparams.flip else batch.image
        terms = self._losses(images, generator)
        for name, each in _named(terms):
            self.log(f"train/{name}", each.mean(), prog_bar=name == "loss")
        return (batch.weight.to(terms.total) * terms.total).mean()

    def validation_step(self, batch: Batch | Sequence[Tensor], batch_idx: int) -> None:
        self._evaluate(self.batch_of(batch, batch_idx), "val")

    def test_step(self, batch: Batch | Sequence[Tensor], batch_idx: int) -> None:
        self._evaluate(self.batch_of(batch, batch_idx), "test")

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        # The same noise each time: the pictures differ by what the network has learned.
        generator = step_generator(self.device, self.hparams.seed, 0, 0, purpose=PICTURES)
        (purifier, sampler), sigmas = self._purifiers, self.hparams.psnr_sigmas
        grids = {"val/denoised": denoised_grid(purifier, batch.image, sigmas, generator)}
        if self.hparams.max_sigma is None:
            grids["val/samples"] = samples_grid(sampler, batch.image.shape[1:], generator)
        return grids

    def _losses(self, images: Tensor, generator: torch.Generator) -> LossTerms:
        """The losses for images (B, C, H, W) in [0, 1] at random timesteps."""
        device = images.device
        t = torch.randint(self._timesteps, (len(images),), device=device, generator=generator)
        epsilon = torch.randn(images.shape, device=device, generator=generator)
        return self._loss(self.unet, images, epsilon, t)

    def _evaluate(self, batch: Batch, split: str) -> None:
        images, keys = batch.image, self.noise_keys(batch, split)
        sigmas = self.hparams.psnr_sigmas
        epsilon, *noises = self.draws(keys, 1 + len(sigmas), images.shape[1:]).unbind(1)
        # Uniform, up to one part in 2^50, and an image's own, as its noise is.
        t = [int.from_bytes(key.digest(8), "little") % self._timesteps for key in keys]
        terms = self._loss(self.unet, images, epsilon, torch.tensor(t, device=images.device))
        for name, each in _named(terms):
            self.measure(split, batch, name, each)
        for sigma, noise in zip(sigmas, noises, strict=True):
            purified = self._purifiers[0](images + sigma * noise, sigma)
            mse = (purified - images).square().mean(dim=(1, 2, 3))
            self.measure(split, batch, _psnr(sigma), -10 * torch.log10(mse.clamp_min(1e-10)))


def _named(terms: LossTerms) -> list[tuple[str, Tensor]]:
    """What is logged of a loss, under which name; simple and total are the same without a bound."""
    if terms.vlb is None:
        return [("loss", terms.total)]
    return [("loss", terms.total), ("loss_simple", terms.simple), ("loss_vlb", terms.vlb)]


def _psnr(sigma: float) -> str:
    return f"psnr_sigma_{sigma:g}"
