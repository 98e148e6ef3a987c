"""The user's mistakes, told apart from bugs."""

from collections.abc import Iterator
from contextlib import contextmanager


class UserError(ValueError):
    """A mistake of the user's, or of what the user's files hold: commands print it as one line.

    Every other exception is a bug, and keeps its traceback. Constructors raise a plain ValueError
    for arguments out of range; commands turn those of option values into a UserError where they are
    made.
    """


@contextmanager
def option_values(option: str = "") -> Iterator[None]:
    """Around constructors that are given option values: out of range is the user's mistake.

    Around no work: a ValueError that arises in it is a bug.

    Args:
        option: named before what is wrong, where the constructor does not know it.
    """
    try:
        yield
    except (ValueError, OverflowError) as error:
        raise UserError(f"{option}: {error}" if option else str(error)) from error
