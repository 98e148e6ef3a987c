"""Long lines at a terminal: broken at spaces, where it would break them inside words."""

import re
import shutil
import sys
import textwrap

# What stands before two spaces or more, in front of a sentence; and what is to be pasted whole.
LABEL = re.compile(r"( *(?:\S+(?: \S+)*? {2,})?)(.*)")
COMMAND = re.compile(r": (?:diffsmooth|python|tensorboard) ")
LEAST = 40  # columns


def for_terminal(text: str, width: int | None = None) -> str:
    """A text whose long sentences are broken at spaces; rows of tables and commands stay whole.

    Args:
        text: of one line or many.
        width: columns; None takes the terminal's, and leaves the text as it is where standard
            output is none.
    """
    if width is None:
        if not sys.stdout.isatty():
            return text
        width = shutil.get_terminal_size().columns
    return "\n".join(_broken(line, max(width, LEAST)) for line in text.split("\n"))


def _broken(line: str, width: int) -> str:
    label, sentence = LABEL.fullmatch(line).groups()  # type: ignore[union-attr]  # fits any line
    if len(line) <= width or "  " in sentence or COMMAND.search(line):
        return line
    indent = len(label) if label.strip() and len(label) < width // 2 else len(label) + 2
    return textwrap.fill(
        sentence,
        width,
        initial_indent=label,
        subsequent_indent=min(indent, width // 2) * " ",
        break_long_words=False,
        break_on_hyphens=False,
    )
