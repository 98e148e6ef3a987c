"""Numbers and names as text where there is little room."""

import re
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from diffsmooth.stats.printed import digits_up, radius_label

LONGEST_WORD = 20  # letters of a name that stay on one line


def short_radius(radius: float) -> str:
    """Two to four decimals, rounded down."""
    return radius_label(radius, most=4)


def radius_labels(radii: Sequence[float] | np.ndarray) -> list[str]:
    """Radii that something is measured at: four decimals at most, or as many as tell them apart."""
    short = [short_radius(radius) for radius in radii]
    return short if len(set(short)) == len(short) else [radius_label(radius) for radius in radii]


def short_number(value: float) -> str:
    """A cost: three significant digits, or all that stand before the point, rounded up."""
    return digits_up(value, 3)


def listed(parts: list[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return " and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]]))


def breakable(name: str) -> Markup:
    """A name, escaped, whose line may end behind each / and _, and within very long words only."""
    parts = re.findall(rf"[^/_]{{1,{LONGEST_WORD}}}[/_]*|[/_]+", name)
    return Markup("<wbr>").join(parts)
