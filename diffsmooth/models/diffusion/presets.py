"""The named U-Net architectures, each with the noise schedule that it was trained on."""

from typing import Any, NamedTuple

from diffsmooth.models.diffusion.openai import OpenAIDenoiser
from diffsmooth.models.diffusion.schedule import DiffusionSchedule
from diffsmooth.models.diffusion.unet import UNet
from diffsmooth.models.diffusion.unet_config import UNetConfig
from diffsmooth.shown_text import quoted
from diffsmooth.stats.errors import UserError


class Preset(NamedTuple):
    """An architecture and its schedule: `schedule_kind` and `schedule_steps`."""

    config: UNetConfig
    schedule_kind: str
    schedule_steps: int

    @property
    def schedule(self) -> DiffusionSchedule:
        return DiffusionSchedule(self.schedule_kind, self.schedule_steps)  # type: ignore[arg-type]


PRESETS: dict[str, Preset] = {
    # cifar10_uncond_50M_500K.pt (Nichol & Dhariwal 2021)
    "improved-cifar10": Preset(UNetConfig(), "cosine", 4000),
    # 256x256_diffusion_uncond.pt (Dhariwal & Nichol 2021)
    "guided-imagenet": Preset(
        UNetConfig(
            image_size=256,
            model_channels=256,
            num_res_blocks=2,
            channel_mult=(1, 1, 2, 2, 4, 4),
            attention_resolutions=(32, 16, 8),
            head_channels=64,
            resblock_updown=True,
        ),
        "linear",
        1000,
    ),
    # Shipped in checkpoints/: small enough to certify with on a laptop.
    "small-gray32": Preset(
        UNetConfig(
            in_channels=1,
            out_channels=1,
            model_channels=32,
            num_res_blocks=1,
            channel_mult=(1, 2, 2),
            attention_resolutions=(8,),
        ),
        "cosine",
        4000,
    ),
}


def get_preset(name: str) -> Preset:
    """The preset called `name`.

    Raises:
        UserError: unknown name (the known ones are listed).
    """
    if name not in PRESETS:
        raise UserError(f"unknown U-Net preset {quoted(name)}: known are {', '.join(PRESETS)}")
    return PRESETS[name]


def unet_config(preset: str, **overrides: Any) -> UNetConfig:
    """An architecture whose numbers are checked, but not yet built.

    Args:
        preset: a name of `PRESETS`.
        **overrides: fields of `UNetConfig` to change; lists become tuples.

    Raises:
        UserError: unknown preset or field, or a field's value that cannot be.
    """
    config = get_preset(preset).config
    unknown = sorted(set(overrides) - set(config._fields))
    if unknown:
        raise UserError(
            f"unknown U-Net option {', '.join(unknown)}: known are {', '.join(config._fields)}"
        )
    values: Any = {k: tuple(v) if isinstance(v, list) else v for k, v in overrides.items()}
    config = config._replace(**values)
    try:
        config.check()
    except ValueError as error:
        raise UserError(str(error)) from error
    return config


def build_unet(preset: str, **overrides: Any) -> UNet:
    """A U-Net with fresh weights; arguments and errors as of `unet_config`."""
    return UNet(unet_config(preset, **overrides))


def build_denoiser(preset: str, **overrides: Any) -> OpenAIDenoiser:
    """A U-Net with fresh weights, and its schedule; arguments and errors as of `build_unet`."""
    return OpenAIDenoiser(build_unet(preset, **overrides), get_preset(preset).schedule)
