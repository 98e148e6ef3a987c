"""Which source makes the votes' noise: by the user's word, or by what a manifest calls it."""

import torch

from diffsmooth.models.smoothing.integer_noise import IntegerNoise
from diffsmooth.models.smoothing.noise import DeviceNoise, NoiseSource, NumpyNoise
from diffsmooth.models.words import Noise, SourceName
from diffsmooth.stats.errors import UserError

SOURCES: dict[SourceName, type[IntegerNoise | NumpyNoise | DeviceNoise]] = {
    "integer": IntegerNoise, "float": NumpyNoise, "device": DeviceNoise,
}  # fmt: skip


def noise_source(word: SourceName, device: torch.device) -> NoiseSource:
    """The source of a word, for networks on a device."""
    return SOURCES[word](device)


def stored_name(word: SourceName) -> str:
    """What a manifest calls the source of a word.

    Raises:
        ValueError: unknown word.
    """
    if word not in SOURCES:
        raise ValueError(f"noise must be auto, integer, float or device, got {word!r}")
    return SOURCES[word].name


def asked_name(word: Noise) -> str | None:
    """What a manifest calls the source that the user asks for; None of "auto".

    Raises:
        ValueError: unknown word.
    """
    return None if word == "auto" else stored_name(word)


def source_word(stored: str) -> SourceName:
    """The word of the source that a manifest calls `stored`.

    Raises:
        UserError: this version of diffsmooth has no such source.
    """
    for word, source in SOURCES.items():
        if source.name == stored:
            return word
    raise UserError(f"noise source {stored!r} is not known to this version of diffsmooth")
