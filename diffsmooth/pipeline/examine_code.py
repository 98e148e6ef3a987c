"""What code that a user names gives, and how a run would take it."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

from torch import nn

from diffsmooth.models.classifiers.architectures import imported_factory
from diffsmooth.models.diffusion.denoiser import Denoiser
from diffsmooth.models.smoothing.purifier_kinds import PurifierKind
from diffsmooth.models.smoothing.purifiers import Purifier
from diffsmooth.stats.errors import UserError
from diffsmooth.stats.printed import counted
from diffsmooth.stats.registry import values_wanted

CLASSES = 10  # of a network that is made for a number of classes, where no images tell it


class Code(NamedTuple):
    """What was found of package.module:name.

    Attributes:
        gives: in words.
        taken: by which option, and as what.
        is_classifier: whether it can be tried on labelled images.
    """

    gives: str
    taken: str
    is_classifier: bool = False


def examine_code(word: str, classes: int | None) -> Code:
    """Calls a factory, which is its author's code, and looks at what it gives.

    Args:
        word: package.module:name, of which `read_classifier` has made a checkpoint.
        classes: that a classifier is to tell apart; None where nobody knows.

    Raises:
        UserError: there is no such name, or it is nothing that a run could take.
    """
    thing = imported_factory(word)
    wanted = values_wanted(thing)  # none or one, see `network_factory`
    known = CLASSES if classes is None else classes
    made = thing(*[known] * wanted)
    gives = describe_made(made) + (f", made for {counted(known, 'class')}" if wanted else "")
    if _is_denoiser(made):
        if wanted:
            raise UserError(f"{word}: a denoiser's factory has no arguments, this wants a value")
        return Code(gives, "as --diffusion: (noisy, sigma) to clean images, all in [0, 1]")
    if not isinstance(made, nn.Module):
        raise UserError(
            f"{word}: gives {describe_made(made)}, neither an nn.Module, as a classifier is, nor a "
            "denoiser (noisy, sigma) -> clean images"
        )
    taken = "as the classifier: images in [0, 1] to logits; what it normalises is its own"
    return Code(gives, taken, is_classifier=True)


def is_purifier(thing: object) -> bool:
    """Whether a run takes it as --purifier."""
    return isinstance(thing, PurifierKind) or (
        inspect.isclass(thing) and issubclass(thing, Purifier)
    )


def describe_made(made: object) -> str:
    """What it is, and how large."""
    name = type(made).__name__
    if not isinstance(made, nn.Module):
        return name
    state = made.state_dict()
    numbers = sum(value.numel() for value in state.values())
    return f"{name}: {counted(len(state), 'tensor')}, {counted(numbers, 'number')}"


def _is_denoiser(made: Any) -> bool:
    """Whether it is called as one: with images and a sigma."""
    if isinstance(made, Denoiser):
        return True
    called: Callable[..., Any] = made.forward if isinstance(made, nn.Module) else made
    return callable(called) and values_wanted(called) == 2
