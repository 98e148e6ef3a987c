"""Ranges of options."""

from diffsmooth.stats.errors import UserError


def at_least(bound: float, **values: float) -> None:
    """Raises UserError for a value below the bound, or that is no number."""
    for name, value in values.items():
        if not value >= bound:
            raise UserError(f"{name} must be at least {bound}, got {value}")


def above(bound: float, **values: float) -> None:
    """Raises UserError for a value that is not above the bound, or is no number."""
    for name, value in values.items():
        if not value > bound:
            raise UserError(f"{name} must be > {bound}, got {value}")
