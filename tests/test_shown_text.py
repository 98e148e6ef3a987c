"""Foreign text does no more than stand where it is written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffsmooth.shown_text import MOST, shown

SURROGATES = st.characters(categories=["Cs"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\x1b[2Jrun", r"\x1b[2Jrun"),
        ("a\r\nb\tc", r"a\r\nb\tc"),
        ("gpj\u202egnp", r"gpj\u202egnp"),
        ("next\u2028line \x9b31m", r"next\u2028line \x9b31m"),
        (b"caf\xe9".decode("utf-8", "surrogateescape"), r"caf\xe9"),
        ("\ud800", r"\ud800"),
        ("na\xefve \u65e5\u672c =1+1 C:\\new", "na\xefve \u65e5\u672c =1+1 C:\\new"),
    ],
)
def test_what_cannot_be_printed_is_spelled_out(text: str, expected: str) -> None:
    assert shown(text) == expected


@given(st.text() | st.text(SURROGATES))
def test_the_result_is_one_printable_line_that_can_be_encoded(text: str) -> None:
    result = shown(text)
    assert result.isprintable()
    assert shown(result) == result
    result.encode()


def test_both_ends_of_a_long_text_are_left() -> None:
    result = shown("begin" + "x" * 10**6 + "end")
    assert result.startswith("begin")
    assert result.endswith("end")
    assert len(result) == MOST + 3


def test_other_things_are_shown_as_str_writes_them() -> None:
    assert shown(ValueError("no\nline")) == r"no\nline"
