"""Text of others (names, paths, what files hold) made harmless to show; of no floor."""

import sys
from io import TextIOWrapper

MOST = 2000


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
