"""Whose fault an exception is: the user's, whose value was refused, or that of a bug."""

import traceback
from pathlib import Path

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException

import diffsmooth
from diffsmooth.stats.errors import UserError

PACKAGE = Path(diffsmooth.__file__).parent
REFUSING = (PACKAGE, Path(pl.__file__).parents[1], Path(torch.optim.__file__).parent)
KINDS = (ValueError, TypeError, OverflowError, RuntimeError, ImportError)


def refusal(error: BaseException) -> str:
    """What was said against an option's value, by our constructors or Lightning; "" for a bug.

    Lightning and torch's optimisers refuse values by the same types that bugs have. But a refusal
    is a `raise` statement of theirs; what a bug trips over lies deeper, or is no such statement.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, UserError | MisconfigurationException) or _is_refusal(cause):
            return str(cause)
        cause = cause.__cause__
    return ""


def _is_refusal(error: BaseException) -> bool:
    if not isinstance(error, KINDS) or error.__traceback__ is None:
        return False
    last = traceback.extract_tb(error.__traceback__)[-1]
    is_theirs = any(Path(last.filename).is_relative_to(folder) for folder in REFUSING)
    return is_theirs and (last.line or "").startswith("raise ")
