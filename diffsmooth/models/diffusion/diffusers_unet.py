"""The family of Hugging Face `diffusers`: a UNet2DModel with the schedule of its folder."""

import inspect
import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, Self, get_args

import torch
from torch import Tensor, nn

from diffsmooth.models.diffusion.denoiser import (
    DiscreteTimeDenoiser,
    NoiseMatch,
    nan_where_infinite,
)
from diffsmooth.models.diffusion.openai import Convention, match_noise
from diffsmooth.models.diffusion.schedule import DiffusionSchedule
from diffsmooth.shown_text import quoted
from diffsmooth.stats.errors import UserError

Prediction = Literal["epsilon", "sample", "v_prediction"]
"""What the network gives: the noise, x_0, or v = sqrt(abar_t) epsilon - sqrt(1 - abar_t) x_0."""

# The library's schedulers of one schedule of betas; the others (EDM, flow matching, consistency
# models) feed their networks another time, or another scale.
SCHEDULERS = (
    "DDPMScheduler", "DDPMParallelScheduler", "DDIMScheduler", "DDIMParallelScheduler",
    "PNDMScheduler", "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler",
    "DEISMultistepScheduler", "UniPCMultistepScheduler", "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler", "HeunDiscreteScheduler", "LMSDiscreteScheduler",
    "KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler",
)  # fmt: skip
BETAS = (
    "num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas",
    "rescale_betas_zero_snr",
)  # fmt: skip
FIXED = {"fixed_small": False, "fixed_small_log": False, "fixed_large": True,
         "fixed_large_log": True}  # fmt: skip
MOST_STEPS = 100_000


class Training(NamedTuple):
    """What a scheduler's configuration says of how its network was trained.

    Attributes:
        schedule: noise schedule.
        prediction: what the network gives.
        learned: whether the network gives a variance, too.
        large: whether the variance of a step is its beta, where it is not learned; else it is the
            posterior's.
    """

    schedule: DiffusionSchedule
    prediction: Prediction
    learned: bool
    large: bool

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """That of a scheduler_config.json.

        Raises:
            UserError: not a scheduler of betas, or with settings that are not known.
        """
        import diffusers  # takes seconds

        name, prediction = config.get("_class_name"), config.get("prediction_type", "epsilon")
        if name not in SCHEDULERS:
            raise UserError(
                f"a scheduler {quoted(name)}: only those of a schedule of betas are known "
                f"({SCHEDULERS[0]}, {SCHEDULERS[2]}, {SCHEDULERS[5]}, ...)"
            )
        if prediction not in get_args(Prediction):
            known = ", ".join(get_args(Prediction))
            raise UserError(f"prediction_type {quoted(prediction)}: known are {known}")
        if config.get("timestep_type", "discrete") != "discrete":
            raise UserError(f"timestep_type {quoted(config['timestep_type'])}: known is discrete")
        variance = config.get("variance_type") or "fixed_small"
        if variance not in (*FIXED, "learned_range"):
            known = ", ".join((*FIXED, "learned_range"))
            raise UserError(f"variance_type {quoted(variance)}: known are {known}")
        steps = config.get("num_train_timesteps", 1000)
        if not isinstance(steps, int) or not 1 <= steps <= MOST_STEPS:
            raise UserError(f"num_train_timesteps {quoted(steps)}: not from 1 to {MOST_STEPS:,}")
        try:
            # What the file leaves out is as its own class has it, which differs between classes.
            usual = inspect.signature(getattr(diffusers, name).__init__).parameters
            told = {key: config.get(key, usual[key].default) for key in BETAS if key in usual}
            scheduler: Any = diffusers.DDPMScheduler(**told)
            schedule = DiffusionSchedule.given(scheduler.alphas_cumprod.double().numpy())
        except (TypeError, ValueError, RuntimeError, NotImplementedError) as error:
            raise UserError(f"a schedule that cannot be made: {error}") from error
        return cls(schedule, prediction, variance == "learned_range", FIXED.get(variance, False))


class DiffusersDenoiser(DiscreteTimeDenoiser):
    """A UNet2DModel of `diffusers` with the schedule that it was trained on.

    Clean images are clamped to [0, 1], whatever `clip_sample` says.

    Args:
        unet: the library's module.
        training: how it was trained.
        convention: see `match_noise`.

    Raises:
        UserError: a network for classes, or whose output has not the channels of its input, or,
            with a learned variance, twice as many.
        ValueError: an unknown convention.

    Source: the library's UNet2DModel and DDPMScheduler.step (`pred_original_sample`).
    """

    def __init__(
        self, unet: nn.Module, training: Training, convention: Convention = "diffsmooth"
    ) -> None:
        super().__init__()
        match_noise(training.schedule, training.schedule.max_sigma, convention)  # knows the word
        config: Any = unet.config
        if config.class_embed_type is not None or config.num_class_embeds is not None:
            raise UserError("a class-conditional network: an unconditional one is wanted")
        wanted = config.in_channels * (2 if training.learned else 1)
        if config.out_channels != wanted:
            raise UserError(
                f"its network gives {config.out_channels} channels of {config.in_channels}: with "
                f"this variance_type it is {wanted}"
            )
        self.unet = unet
        self.schedule = training.schedule
        self.convention: Convention = convention
        self.prediction = training.prediction
        self.large_variance = training.large
        self.max_sigma = self.schedule.max_sigma
        sides = config.sample_size
        if sides is not None:
            height, width = (sides, sides) if isinstance(sides, int) else sides
            self.image_shape = (config.in_channels, height, width)

    def check_images(self, shape: tuple[int, int, int]) -> None:
        super().check_images(shape)
        config: Any = self.unet.config
        if shape[0] != config.in_channels:
            raise ValueError(
                f"takes images whose number of channels is {config.in_channels}, not {shape[0]}"
            )

    def start(self, sigma: float) -> NoiseMatch:
        return match_noise(self.schedule, sigma, self.convention)

    def prepare_timesteps(self, timesteps: list[int]) -> list[nn.Module]:
        return [self.unet]

    def predict(self, x_t: Tensor, t: int) -> tuple[Tensor, Tensor | None]:
        times = torch.full((1,), t, device=x_t.device)
        (output,) = self.unet(x_t, times, return_dict=False)
        output = nan_where_infinite(output.to(x_t.dtype))
        channels = x_t.shape[1]
        given, learned = output[:, :channels], output[:, channels:]
        abar = float(self.schedule.alphas_cumprod[t])
        signal, noise = math.sqrt(abar), math.sqrt(1 - abar)
        match self.prediction:
            case "epsilon":
                x_0 = (x_t - noise * given) / signal
            case "sample":
                x_0 = given
            case "v_prediction":
                x_0 = signal * x_t - noise * given
        if not learned.shape[1]:
            # As `AncestralStep.log_variance` takes it: all of the larger one, or the smaller one.
            variance = torch.ones((), device=x_t.device) if self.large_variance else None
        else:
            variance = learned
        return nan_where_infinite(x_0).clamp(-1, 1), variance
