"""Tables in the three markups, by their text."""

import pandas as pd
import pytest

from diffsmooth.report.writers import Section, as_latex, as_markdown, as_text


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
    assert cells[2] == ["a_b & c", "**0.900**", ">= 0.450"]
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
