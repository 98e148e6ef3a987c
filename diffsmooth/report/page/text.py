"""Numbers as text where there is little room."""

from diffsmooth.stats.bounds import floor_decimals


def short_radius(radius: float) -> str:
    """Two decimals, or as many as it takes up to four; other radii are rounded down to three."""
    for decimals in (2, 3, 4):
        text = f"{radius:.{decimals}f}"
        if abs(float(text) - radius) < 1e-9:
            return text
    return f"{floor_decimals(radius, 3):.3f}"


def short_number(value: float) -> str:
    """Three significant digits, or all that stand before the point."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def listed(parts: list[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return " and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]]))
