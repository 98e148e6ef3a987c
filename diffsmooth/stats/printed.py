"""Numbers as text that never says more than the number.

What speaks for a run (accuracies, radii, lower ends of intervals, savings) is rounded down, what
speaks against it (abstentions, upper ends, p-values, costs) is rounded up.

A float counts as the shortest decimal that gives it: 0.29 is 0.29 here, although its binary digits
lie a little below, and 23/40 is 0.575.
"""

import math
from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_FLOOR, Context, Decimal

DIGITS = 400  # as many as sums of floats may have
EXACT = Context(prec=DIGITS, rounding=ROUND_FLOOR)


def decimal(value: float) -> Decimal:
    """The shortest decimal that gives a float, exactly."""
    return Decimal(repr(float(value) + 0.0))  # -0.0 is 0.0


def rounded_down(value: float, decimals: int = 3) -> str:
    """A finite number with so many decimals, at most itself."""
    return _rounded(value, decimals, ROUND_FLOOR)


def rounded_up(value: float, decimals: int = 3) -> str:
    """A finite number with so many decimals, at least itself."""
    return _rounded(value, decimals, ROUND_CEILING)


def signed(value: float, decimals: int = 3) -> str:
    """A finite difference with its sign and so many decimals, rounded towards zero."""
    text = _rounded(value, decimals, ROUND_DOWN)
    return text if text.startswith("-") else f"+{text}"


def digits_up(value: float, digits: int) -> str:
    """A finite number >= 0 with so many significant digits, or all before the point; at least it.

    For p-values and costs.
    """
    if value >= 10**digits:
        return rounded_up(value, 0)
    return _significant(value, digits, ROUND_CEILING)


def digits_down(value: float, digits: int) -> str:
    """A finite number > 0 with so many significant digits, at most it; for limits."""
    return _significant(value, digits, ROUND_FLOOR)


def exact(value: float) -> str:
    """A number with as many digits as it takes to give it again; for what the user has set."""
    text = f"{value:g}"
    return text if float(text) == value else repr(float(value))


def radius_label(radius: float, least: int = 2, most: int = 9) -> str:
    """A radius >= 0 that something is measured at, rounded down to as few decimals as it needs.

    By default, radii that differ by 1e-9 are told apart.
    """
    text = rounded_down(radius, most)
    whole, _, decimals = text.partition(".")
    return f"{whole}.{decimals.rstrip('0').ljust(least, '0')}".rstrip(".")


def _significant(value: float, digits: int, rounding: str) -> str:
    context = Context(prec=digits, rounding=rounding)
    return f"{float(context.plus(decimal(value))):.{digits}g}"


def _rounded(value: float, decimals: int, rounding: str) -> str:
    assert math.isfinite(value), value
    step = Decimal(1).scaleb(-decimals)
    context = Context(prec=DIGITS, rounding=rounding)
    return f"{decimal(value).quantize(step, context=context):f}"


def ordinal(number: int) -> str:
    """ "21st", "11th", "1,000th"."""
    endings = {1: "st", 2: "nd", 3: "rd"}
    ending = "th" if number % 100 in (11, 12, 13) else endings.get(number % 10, "th")
    return f"{number:,}{ending}"


def counted(number: int, word: str) -> str:
    """Such as "1 image", "2 images", "3 tries", "1,000 classes"."""
    if number == 1:
        return f"1 {word}"
    if word.endswith("y"):
        return f"{number:,} {word[:-1]}ies"
    return f"{number:,} {word}{'es' if word.endswith('s') else 's'}"
