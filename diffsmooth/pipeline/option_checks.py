"""Ranges of numbers that several commands take: beyond them, floats or memory give out."""

import math
from importlib.util import find_spec

from diffsmooth.stats.errors import UserError
from diffsmooth.stats.registry import is_code

# Noise that is smaller is lost in float32 when it is added to a pixel, which has steps of 6e-8.
LEAST_NOISE, MOST_NOISE = 1e-4, 1e3
LEAST_ALPHA = 1e-100
MOST = {
    "n": 10**9,
    "n0": 10**9,
    "planned_n": 10**9,
    "batch": 10**6,
    "m": 1000,
    "threads": 1024,
    "num_nodes": 10**5,
    "in_flight": 10**5,
    "images": 10**7,
    "repetitions": 1000,
    "devices": 10**6,
}
SPELLED = {"n": "N", "planned_n": "planned_N"}  # in messages
LEAST_RATE, MOST_RATE = 1e-6, 1e15  # votes a second
LOWEST_SEED, LARGEST_SEED = -(2**63), 2**64 - 1  # torch's


def check_local_noise(name: str, level: float) -> None:
    """As `check_noise`, but that 0 is none."""
    check_noise(name, level, zero=True)


def check_noise(name: str, level: float, zero: bool = False) -> None:
    """Raises UserError for a standard deviation that no noise can have; 0 is none, if `zero`."""
    if not (level > 0 or (zero and level == 0)) or level == math.inf:
        raise UserError(f"{name} must be {'>=' if zero else '>'} 0 and finite, got {level}")
    if level and not LEAST_NOISE <= level <= MOST_NOISE:
        raise UserError(f"{name} must be in {LEAST_NOISE:g} .. {MOST_NOISE:g}, got {level}")


def check_probability(name: str, alpha: float) -> None:
    """Raises UserError for a failure probability that no run can have."""
    if not 0 < alpha < 1:
        raise UserError(f"{name} must be in (0, 1), got {alpha}")


def check_alpha(name: str, alpha: float) -> None:
    """Raises UserError unless alpha is a failure probability that floats can share out."""
    check_probability(name, alpha)
    if alpha < LEAST_ALPHA:
        raise UserError(f"{name} must be at least {LEAST_ALPHA:g}, got {alpha}")


def check_seed(name: str, seed: int) -> None:
    """Raises UserError for a seed that torch's generators do not take."""
    if not LOWEST_SEED <= seed <= LARGEST_SEED:
        raise UserError(f"{name} must be in -2^63 .. 2^64 - 1, got {seed}")


def check_rate(name: str, rate: float) -> None:
    """Raises UserError for votes a second that no device does."""
    if not rate > 0:
        raise UserError(f"{name} must be > 0, got {rate}")
    if not LEAST_RATE <= rate <= MOST_RATE:
        raise UserError(f"{name} must be in {LEAST_RATE:g} .. {MOST_RATE:g}, got {rate}")


LOGGERS = ("tensorboard", "csv", "wandb", "none")


def check_logger(name: str, word: str) -> None:
    """Raises UserError for what is no logger's word, and no code."""
    if word not in LOGGERS and not is_code(word):
        words = f"{', '.join(LOGGERS)}, or PACKAGE.MODULE:FACTORY of a logger of your own"
        raise UserError(f"{name} must be of {words}, got {word!r}")
    if word == "wandb" and find_spec("wandb") is None:
        raise UserError(f"{name} wandb: the package wandb is not installed")
