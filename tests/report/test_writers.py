"""Tables in the three markups, by their text."""

import pandas as pd
import pytest

from diffsmooth.report.writers import (
    Section,
    as_csv,
    as_latex,
    as_markdown,
    as_text,
    latex,
    markdown,
)


@pytest.fixture
def section() -> Section:
    text = pd.DataFrame(
        {"0.00": ["0.900", "0.800"], "ACR": [">= 0.450", "n/a"]}, index=["a_b & c", "two"]
    )
    best = pd.DataFrame({"0.00": [True, False], "ACR": [False, False]}, index=["a_b & c", "two"])
    return Section("Accuracy", text, best)


def test_text(section: Section) -> None:
    assert as_text([section, section._replace(title="Again")], ["a remark"]).splitlines() == [
        "Accuracy",
        "          0.00       ACR",
        "a_b & c  0.900  >= 0.450",
        "two      0.800       n/a",
        "",
        "Again",
        "          0.00       ACR",
        "a_b & c  0.900  >= 0.450",
        "two      0.800       n/a",
        "",
        "- a remark",
    ]


def test_markdown(section: Section) -> None:
    lines = as_markdown([section], ["a remark"]).splitlines()
    assert lines[0] == "Accuracy"
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:6]]
    assert cells[0] == ["", "0.00", "ACR"]
    assert cells[2] == [r"a_b \& c", "**0.900**", ">= 0.450"]
    assert cells[3] == ["two", "0.800", "n/a"]
    assert lines[-1] == "- a remark"


def test_latex(section: Section) -> None:
    assert as_latex([section], ["a remark"]).splitlines() == [
        "% Accuracy",
        r"\begin{tabular}{lrr}",
        r"\toprule",
        r" & 0.00 & ACR \\",
        r"\midrule",
        r"a\_b \& c & \textbf{0.900} & $\geq$ 0.450 \\",
        r"two & 0.800 & n/a \\",
        r"\bottomrule",
        r"\end{tabular}",
        "% a remark",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sigma_0.25", "sigma_0.25"),
        ("_emphasis_", r"\_emphasis\_"),
        ("[0, 1] [a]: b", r"[0, 1] [a\]: b"),
        ("a__b__c", r"a\_\_b\_\_c"),
        ("*a* `b` [c](d) <e> a|b", r"\*a\* \`b\` [c\](d) \<e> a\|b"),
        ("&amp; ~f~ $g$ # \\", r"\&amp; \~f\~ \$g\$ \# \\"),
    ],
)  # fmt: skip
def test_markdown_of_text(text: str, expected: str) -> None:
    assert markdown(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (">= 0.5", r"$\geq$ 0.5"),
        ("a >= b", r"a \textgreater{}= b"),
        ("[2pt]", "{[}2pt]"),
        ("*", "{*}"),
        (r"\input{x}", r"\textbackslash{}input\{x\}"),
        ("~^_#%&$|<", r"\textasciitilde{}\textasciicircum{}\_\#\%\&\$\textbar{}\textless{}"),
    ],
)
def test_latex_of_text(text: str, expected: str) -> None:
    assert latex(text) == expected


def test_cells_that_a_spreadsheet_would_compute() -> None:
    names = ["=1+1", "+cmd", "-2+3", "@sum", " =1", "\uff1d1", "-1", "+2e3", "plain", "a=b"]
    names.append("a;=1+1;x")  # where a semicolon ends a cell
    table = pd.DataFrame({"run": names, "number": [-1.5] * 11, "flag": [True] * 11})
    rows = [line.split(",") for line in as_csv(table).splitlines()[1:]]
    assert [row[0] for row in rows] == [
        "'=1+1", "'+cmd", "'-2+3", "'@sum", "' =1", "'\uff1d1", "-1", "+2e3", "plain", "a=b",
        "a;'=1+1;x",
    ]  # fmt: skip
    assert {(row[1], row[2]) for row in rows} == {("-1.5", "True")}
