"""Tables as text, Markdown and LaTeX."""

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd


class Section(NamedTuple):
    """A table of text cells under its title.

    Attributes:
        title: what the table says, one line.
        text: the cells.
        best: which cells are the best of their column, of the same shape; None where none is.
    """

    title: str
    text: pd.DataFrame
    best: pd.DataFrame | None = None


def as_text(sections: Sequence[Section], remarks: Sequence[str]) -> str:
    """For terminals: the tables one below the other, then the remarks."""
    tables = [f"{title}\n{text.rename_axis(index=None).to_string()}" for title, text, _ in sections]
    return "\n\n".join([*tables, *([_listed(remarks)] if remarks else [])]) + "\n"


def as_markdown(sections: Sequence[Section], remarks: Sequence[str]) -> str:
    """For pages; what is best is bold."""
    tables = []
    for title, text, best in sections:
        cells = text if best is None else text.mask(best, "**" + text + "**")
        cells = cells.rename(index=_unpiped, columns=_unpiped)
        numbers = ("right",) * len(cells.columns)
        body = cells.to_markdown(disable_numparse=True, colalign=("left", *numbers))
        tables.append(f"{title}\n\n{body}")
    return "\n\n".join([*tables, *([_listed(remarks)] if remarks else [])]) + "\n"


def as_latex(sections: Sequence[Section], remarks: Sequence[str]) -> str:
    """For papers that use the package booktabs; what is best is bold. The rest are comments."""
    tables = []
    for title, text, best in sections:
        style = text.rename_axis(index=None).style.format(escape="latex")
        style = style.format_index(escape="latex").format_index(escape="latex", axis=1)
        if best is not None:
            bold = best.map(lambda is_best: "textbf:--rwrap;" if is_best else "")
            style = style.apply(lambda _, bold=bold: bold, axis=None)
        body = style.to_latex(hrules=True, column_format="l" + "r" * len(text.columns))
        tables.append(f"% {title}\n{body}".replace(">= ", r"$\geq$ "))
    notes = "".join(f"% {remark}\n" for remark in remarks)
    return "\n".join(tables) + notes


def _unpiped(name: object) -> str:
    return str(name).replace("|", r"\|")  # it would begin another cell


def _listed(remarks: Sequence[str]) -> str:
    return "\n".join(f"- {remark}" for remark in remarks)
