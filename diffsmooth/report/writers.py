"""Tables as text, Markdown, LaTeX and comma-separated values."""

import re
from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")  # and their wide forms
LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "&": r"\&", "%": r"\%", "$": r"\$",
    "#": r"\#", "_": r"\_", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
}  # fmt: skip


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
        cells = text.map(markdown)
        cells = cells if best is None else cells.mask(best, "**" + cells + "**")
        cells = cells.rename(index=markdown, columns=markdown)
        numbers = ("right",) * len(cells.columns)
        body = cells.to_markdown(disable_numparse=True, colalign=("left", *numbers))
        tables.append(f"{markdown(title)}\n\n{body}")
    notes = [_listed([markdown(remark) for remark in remarks])] if remarks else []
    return "\n\n".join([*tables, *notes]) + "\n"


def as_latex(sections: Sequence[Section], remarks: Sequence[str]) -> str:
    """For papers that use the package booktabs; what is best is bold. The rest are comments."""
    tables = []
    for title, text, best in sections:
        cells = text.map(latex).rename(index=latex, columns=latex).rename_axis(index=None)
        style = cells.style
        if best is not None:
            bold = best.map(lambda is_best: "textbf:--rwrap;" if is_best else "")
            style = style.apply(lambda _, bold=bold.to_numpy(): bold, axis=None)
        body = style.to_latex(hrules=True, column_format="l" + "r" * len(text.columns))
        tables.append(f"% {title}\n{body}")
    notes = "".join(f"% {remark}\n" for remark in remarks)
    return "\n".join(tables) + notes


def as_csv(table: pd.DataFrame) -> str:
    """Numbers with all their digits, for other programs; text that is no formula to them."""
    words = table.select_dtypes(exclude=["number", "bool"]).columns
    defused = table.assign(**{name: table[name].map(_no_formula) for name in words})
    return defused.to_csv(index=False)


def markdown(text: str) -> str:
    """Text that Markdown shows as it is: no markup, no HTML, no cell's or formula's end."""
    escaped = re.sub(r"([\\`*|<&#~$]|\](?=[(\[:]))", r"\\\1", text)
    return re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", escaped)  # within words it is no markup


def latex(text: str) -> str:
    """Text that LaTeX shows as it is; at a row's begin, a bracket or a star would be an option."""
    bound, number = ("$\\geq$ ", text[3:]) if text.startswith(">= ") else ("", text)
    escaped = "".join(LATEX.get(letter, letter) for letter in number)
    return bound + (f"{{{escaped[0]}}}{escaped[1:]}" if escaped[:1] in ("[", "*") else escaped)


def _no_formula(cell: object) -> object:
    """A cell's text behind an apostrophe where a spreadsheet would compute what follows.

    Also within, behind what some take for the end of a cell.
    """
    if not isinstance(cell, str):
        return cell
    try:
        float(cell)
    except ValueError:
        parts = re.split("([;,\t|])", cell)
        return "".join(f"'{p}" if p.lstrip().startswith(FORMULA) else p for p in parts)
    return cell


def _listed(remarks: Sequence[str]) -> str:
    return "\n".join(f"- {remark}" for remark in remarks)
