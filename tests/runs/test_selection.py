"""Which images --skip and --max take, against the loop of the published certify.py."""

from hypothesis import given
from hypothesis import strategies as st

from diffsmooth.runs.identity import selection_of

sizes, skips = st.integers(1, 200), st.integers(1, 50)


def published(size: int, skip: int, largest: int) -> list[int]:
    """Cohen et al.'s, SmoothAdv's, DiffSmooth's and DensePure's: it must meet the index to stop."""
    taken = []
    for index in range(size):
        if index % skip:
            continue
        if index == largest:
            break
        taken.append(index)
    return taken


@given(sizes, skips, st.integers(0, 10))
def test_a_multiple_of_skip_stops_both_before_it(size: int, skip: int, multiple: int) -> None:
    largest = multiple * skip
    assert list(selection_of(size, skip, largest)) == published(size, skip, largest)
    assert list(selection_of(size, skip, -1)) == published(size, skip, -1)


@given(sizes, skips, st.integers(0, 250))
def test_max_is_an_index_whatever_skip_is(size: int, skip: int, largest: int) -> None:
    expected = [i for i in range(size) if i % skip == 0 and i < largest]
    assert list(selection_of(size, skip, largest)) == expected


def test_where_the_published_loops_do_not_stop() -> None:
    assert list(selection_of(1000, 100, 150)) == [0, 100]
    assert len(published(1000, 100, 150)) == 10
