"""Numbers as text never say more than the number."""

import math
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from diffsmooth.stats.printed import (
    counted,
    digits_up,
    exact,
    ordinal,
    radius_label,
    rounded_down,
    rounded_up,
    signed,
)

numbers = st.floats(0.0, 1e6)
places = st.integers(0, 9)


def unit(decimals: int) -> Fraction:
    return Fraction(1, 10**decimals)


@given(st.floats(-1e6, 1e6), places)
@example(0.9996, 3)
@example(0.9999999999999999, 9)
def test_rounding_goes_one_way_by_less_than_a_unit(value: float, decimals: int) -> None:
    low, high = rounded_down(value, decimals), rounded_up(value, decimals)
    assert float(low) <= value <= float(high)
    known = Fraction(repr(value))  # the number, as far as its digits tell it
    assert (
        known - unit(decimals) < Fraction(low) <= known <= Fraction(high) < known + unit(decimals)
    )
    for text in (low, high):
        assert len(text.partition(".")[2]) == decimals


@given(st.integers(0, 10**6), st.integers(0, 6), st.integers(0, 3))
@example(29, 2, 0)  # 0.29 * 100 is 28.999999999999996
@example(575, 3, 0)  # the float lies below
def test_what_has_so_many_decimals_is_printed_as_it_is(k: int, decimals: int, more: int) -> None:
    expected = f"{Decimal(k).scaleb(-decimals):.{decimals + more}f}"
    value = k / 10**decimals
    assert rounded_down(value, decimals + more) == expected
    assert rounded_up(value, decimals + more) == expected


def test_zero_has_no_sign() -> None:
    assert rounded_down(-0.0, 3) == rounded_up(-0.0, 3) == "0.000"


@given(st.integers(1, 10**5), st.data(), st.integers(0, 6))
def test_a_share_is_rounded_as_the_fraction_that_it_is(
    total: int, data: st.DataObject, decimals: int
) -> None:
    k = data.draw(st.integers(0, total))
    floor = k * 10**decimals // total
    ceiling = -(-k * 10**decimals // total)
    assert Fraction(rounded_down(k / total, decimals)) == floor * unit(decimals)
    assert Fraction(rounded_up(k / total, decimals)) == ceiling * unit(decimals)


@given(st.floats(-1.0, 1.0), places)
def test_a_difference_is_rounded_towards_zero(value: float, decimals: int) -> None:
    text = signed(value, decimals)
    assert text[0] in "+-"
    assert abs(float(text)) <= abs(value)
    assert abs(Fraction(repr(value))) < abs(Fraction(text)) + unit(decimals)


@given(st.floats(0.0, 1e9), st.integers(2, 4))
@example(99.95, 3)
@example(5e-324, 2)
def test_costs_and_p_values_round_up(value: float, digits: int) -> None:
    text = digits_up(value, digits)
    assert float(text) >= value
    # At most one unit of the last digit away, and of the last before the point.
    step = 10.0 ** (math.floor(math.log10(value)) + 1 - digits) if value > 1e-300 else 1e-300
    assert float(text) - value <= max(step, 1.0 if value >= 10**digits else 0.0) * (1 + 1e-9)


@given(numbers)
@example(0.99999999)  # 1 in six digits
def test_settings_are_printed_exactly(value: float) -> None:
    assert float(exact(value)) == value


def test_settings_are_short() -> None:
    assert [exact(v) for v in (0.25, 1.0, 0.001, 1e-05, 5, 0.12345678)] == [
        "0.25", "1", "0.001", "1e-05", "5", "0.12345678",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("radius", "label"),
    [
        (0.0, "0.00"), (0.25, "0.25"), (1.0, "1.00"), (0.625, "0.625"), (0.24996, "0.24996"),
        (0.9999999999, "0.999999999"), (0.1 + 0.2, "0.30"), (1 / 3, "0.333333333"),
    ],
)  # fmt: skip
def test_labels_of_radii(radius: float, label: str) -> None:
    assert radius_label(radius) == label


@given(st.floats(0.0, 100.0), st.floats(1.1e-9, 1.0))
def test_labels_do_not_overstate_and_tell_radii_apart(radius: float, further: float) -> None:
    label = radius_label(radius)
    assert float(label) <= radius
    assert radius_label(radius + further) != label


@pytest.mark.parametrize(
    ("number", "text"),
    [(1, "1st"), (2, "2nd"), (3, "3rd"), (4, "4th"), (11, "11th"), (113, "113th"), (122, "122nd"),
     (1000, "1,000th")],
)  # fmt: skip
def test_ordinals(number: int, text: str) -> None:
    assert ordinal(number) == text


def test_counted_words() -> None:
    said = [counted(number, word) for number, word in [(0, "image"), (1, "image"), (2, "try")]]
    assert said == ["0 images", "1 image", "2 tries"]
    assert [counted(1, "class"), counted(1000, "class")] == ["1 class", "1,000 classes"]
