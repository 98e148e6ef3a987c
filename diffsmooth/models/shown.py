"""Words of a file in a message: short and harmless, whatever the file says."""

import reprlib

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80
_SHORT.maxlevel = 2

LONGEST_WORD = 200


def shown(value: object) -> str:
    """A value as Python writes it, cut where it is long or deep."""
    try:
        return _SHORT.repr(value)
    except ValueError:  # an integer of more digits than Python prints
        return f"a {type(value).__name__} of very many digits"


def is_word(value: object) -> bool:
    """Whether a value is a text that can be printed on one line."""
    return isinstance(value, str) and value.isprintable() and len(value) <= LONGEST_WORD


def word(text: str) -> str:
    """A text as it is where that can be printed, else as Python writes it, cut."""
    return text if is_word(text) else shown(text)
