"""Architectures of U-Nets in numbers, checked before anything is built of them; and the named ones,
each with the noise schedule that it was trained on.
"""

from typing import Any, NamedTuple

from diffsmooth.models.diffusion.schedule import DiffusionSchedule
from diffsmooth.shown_text import quoted
from diffsmooth.stats.errors import UserError

GROUPS = 32  # of every GroupNorm, as published
MOST_LEVELS = 16
WIDEST = 2**20  # channels: beyond it, sizes overflow


class UNetConfig(NamedTuple):
    """Architecture of a U-Net; see `PRESETS` for the published ones.

    Attributes:
        image_size: side in pixels of the images that it was designed for; attention sits where
            the side has shrunk to one of `attention_resolutions`.
        in_channels: those of the image.
        out_channels: as many, or twice that when the variance is learned as well: the first half is
            then epsilon.
        model_channels: width of the first level, a multiple of 32.
        num_res_blocks: residual blocks a level.
        channel_mult: width of each level, in units of model_channels.
        attention_resolutions: sides in pixels at which there is self-attention.
        num_heads: attention heads, unless head_channels is set.
        head_channels: channels an attention head, or None.
        resblock_updown: resample in residual blocks ("guided") or by convolutions ("improved").
        dropout: probability, used in training only.
    """

    image_size: int = 32
    in_channels: int = 3
    out_channels: int = 6
    model_channels: int = 128
    num_res_blocks: int = 3
    channel_mult: tuple[int, ...] = (1, 2, 2, 2)
    attention_resolutions: tuple[int, ...] = (16, 8)
    num_heads: int = 4
    head_channels: int | None = None
    resblock_updown: bool = False
    dropout: float = 0.0

    def check(self) -> None:
        """Raises ValueError, which names field and value, for what no U-Net can be built of."""
        sizes = ("image_size", "in_channels", "out_channels", "model_channels", "num_res_blocks",
                 "num_heads")  # fmt: skip
        for name in sizes:
            _check_whole(name, getattr(self, name))
        if self.head_channels is not None:
            _check_whole("head_channels", self.head_channels)
        for name in ("channel_mult", "attention_resolutions"):
            value = getattr(self, name)
            if not isinstance(value, tuple) or len(value) > MOST_LEVELS:
                raise ValueError(
                    f"{name} must be a list of at most {MOST_LEVELS} numbers, got {quoted(value)}"
                )
            for number in value:
                _check_whole(name, number)
        if not self.channel_mult:
            raise ValueError("channel_mult must name at least one level, got none")
        if self.model_channels % GROUPS:
            raise ValueError(
                f"model_channels must be a multiple of {GROUPS}, got {self.model_channels}"
            )
        widths = self.widths
        if max(widths) > WIDEST:
            raise ValueError(f"model_channels x channel_mult must be <= {WIDEST}, got {widths}")
        if self.image_size % 2 ** (len(widths) - 1):
            raise ValueError(
                f"image_size must halve {len(widths) - 1} times, got {self.image_size}"
            )
        attended = {width for level, width in enumerate(widths) if self.attends(level)}
        for width in {*attended, widths[-1]}:  # the middle has attention in any case
            if width % (self.head_channels or self.num_heads):
                name = "num_heads" if self.head_channels is None else "head_channels"
                raise ValueError(f"{name} must divide {width} channels, got {getattr(self, name)}")
        if not isinstance(self.resblock_updown, bool):
            raise ValueError(f"resblock_updown must be true or false, got {self.resblock_updown!r}")
        is_number = isinstance(self.dropout, int | float) and not isinstance(self.dropout, bool)
        if not is_number or not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {quoted(self.dropout)}")

    @property
    def widths(self) -> list[int]:
        """Channels of each level."""
        return [self.model_channels * mult for mult in self.channel_mult]

    def attends(self, level: int) -> bool:
        """Whether there is attention at a level, where the side has shrunk by 2 ** level."""
        return 2**level in [self.image_size // side for side in self.attention_resolutions]


def _check_whole(name: str, value: object) -> None:
    """Raises ValueError for what is not a whole number from 1 to `WIDEST`."""
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= WIDEST:
        raise ValueError(f"{name} must be a whole number from 1 to {WIDEST}, got {quoted(value)}")


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
