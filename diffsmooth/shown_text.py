"""Text of others (names, paths, what files hold) made harmless to show; of no floor."""

import reprlib
import shlex
import sys
from io import TextIOWrapper

MOST = 2000
LONGEST_WORD = 200

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80
_SHORT.maxlevel = 2


def shown(text: object, most: int = MOST) -> str:
    """A text as one line that does no more than stand where it is written.

    What cannot be printed is written as Python writes it in strings: terminal escapes, ends of
    lines, marks that turn the direction of writing, and halves of surrogates, which no encoding
    takes. Bytes of a file's name that are no UTF-8 appear as `\\xff`. Letters of all scripts stay,
    so do backslashes. Of a long text both ends are left.

    Args:
        text: a string, or what is to be written as str() does.
        most: letters that are left, before what cannot be printed is spelled out.
    """
    whole = str(text)
    if len(whole) > most:
        whole = f"{whole[: most // 2]}...{whole[-(most // 2) :]}"
    return "".join(c if c.isprintable() else _escaped(c) for c in whole)


def shell_line(*words: object) -> str:
    """A command as it is to be pasted into a shell: words with spaces or quotes are quoted."""
    return shown(shlex.join(map(str, words)))


def quoted(value: object) -> str:
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
    return text if is_word(text) else quoted(text)


def escape_output() -> None:
    """Lets printing escape the letters that the terminal's encoding lacks, rather than fail."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _escaped(letter: str) -> str:
    code = ord(letter)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that Python could not decode, see PEP 383
        return f"\\x{code - 0xDC00:02x}"
    return letter.encode("unicode_escape", "surrogatepass").decode()
