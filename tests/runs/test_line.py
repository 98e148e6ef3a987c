"""A journal's line: what is kept, and what is noticed."""

import json
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_journal import ORIGIN

from diffsmooth.runs.line import from_line, to_line
from diffsmooth.stats import FixedSampleSize, GroupSequential, ImageRecord
from diffsmooth.stats.results import Origin

NOWHERE = replace(ORIGIN, image="")


def make_record(successes: int = 99, origin: Origin | None = ORIGIN, index: int = 3) -> ImageRecord:
    run = FixedSampleSize(n0=1, n=100).start(0.5, 2)
    run.update(np.array([1, 0]))
    run.update(np.array([successes, 100 - successes]))
    return ImageRecord(index, 0, 1.25, run.certificate, origin=origin)


def fields_of(record: ImageRecord) -> dict[str, Any]:
    return json.loads(to_line(record))


@given(
    index=st.integers(0, 10**6),
    label=st.integers(0, 2),
    successes=st.integers(0, 100),
    milliseconds=st.integers(0, 10**6),
    origin=st.none()
    | st.builds(Origin, st.text(), st.text(), st.text(min_size=1), st.just((1, 2, 3))),
)
def test_a_line_keeps_everything(
    index: int, label: int, successes: int, milliseconds: int, origin: Origin | None
) -> None:
    certificate = make_record(successes).certificate
    record = ImageRecord(index, label, milliseconds / 1000, certificate, origin=origin)
    line = to_line(record)
    assert "\n" not in line
    assert from_line(line) == record


def test_a_line_keeps_what_was_not_certified() -> None:
    plan = GroupSequential(label_aware=True, radii=(0.1, 1 / 3))
    run = plan.start(0.5, 2, label=1)
    run.update(np.array([plan.n0, 0]))
    skipped = ImageRecord(3, 1, 1.0, run.certificate, origin=ORIGIN)
    failed = ImageRecord(4, 1, 0.5, plan.nothing(0.5), "image 4 has\nno pixels", ORIGIN)
    for record in (skipped, failed):
        assert from_line(to_line(record)) == record


def test_votes_are_of_an_image_that_is_told() -> None:
    failed = ImageRecord(4, 1, 0.5, FixedSampleSize().nothing(0.5), "no file", NOWHERE)
    assert from_line(to_line(failed)) == failed
    with pytest.raises(ValueError, match="not the digest of the image that they are of"):
        from_line(to_line(make_record(origin=NOWHERE)))


def test_what_a_line_says() -> None:
    fields = fields_of(make_record())
    assert fields["format"] == 2
    assert fields["index"] == 3
    assert fields["correct"] is True
    assert fields["estimation_counts"] == [[0, 99], [1, 1]]
    assert fields["looks"] == [[100, 99]]
    assert {"n0", "n", "alpha", "sigma", "p_lower", "seconds", "votes"} <= set(fields)
    assert (fields["status"], fields["plan"], fields["max_n"]) == ("certified", "fixed", 100)
    assert (fields["grid"], fields["tolerance"], fields["error"]) == ([], None, "")
    assert fields["image"] == "fedcba9876543210"
    assert fields["image_shape"] == [3, 32, 32]
    assert "format" not in fields_of(make_record(origin=None))


@pytest.mark.parametrize("line", ["", "{", "{}", "[1]", '{"index": 1}', "null", "[" * 100_000])
def test_broken_lines(line: str) -> None:
    with pytest.raises(ValueError, match="not a journal line"):
        from_line(line)


@pytest.mark.parametrize("name", sorted(fields_of(make_record()).keys() - {"seconds"}))
def test_any_change_is_noticed_by_the_checksum(name: str) -> None:
    fields = fields_of(make_record())
    changed = "x" if isinstance(fields[name], str) else 77
    with pytest.raises(ValueError, match=r"its checksum does not fit|is of format 77"):
        from_line(json.dumps(fields | {name: changed}))
    fields["seconds"] = 9.0  # says nothing that counts
    assert from_line(json.dumps(fields)).seconds == 9.0


@pytest.mark.parametrize("name", sorted(asdict(make_record().certificate)))
@pytest.mark.parametrize("value", [0.499, 7, -1, "certified", None, [[0, 3]], True, 1e300])
def test_what_the_votes_do_not_say_is_refused_without_a_checksum(name: str, value: object) -> None:
    """Format 1, edited: either nothing that counts has changed, or the line is refused."""
    fields = fields_of(make_record(origin=None))
    try:
        record = from_line(json.dumps(fields | {name: value}))
    except ValueError:
        return
    assert record == make_record(origin=None)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("index", -1, "index is -1"),
        ("index", 10**30, "index is 1000"),
        ("label", -1, "label is -1"),
        ("label", 2.0, "label is 2.0"),
        ("label", 1, "correct is True, not what label and prediction say"),
        ("correct", False, "correct is False"),
        ("correct", 1, "correct is 1"),
        ("prediction", -2, "prediction is -2"),
        ("prediction", True, "prediction is True"),
        ("prediction", -1, "prediction is -1, but the votes give 0"),
        ("radius", float("nan"), "radius is nan"),
        ("radius", float("inf"), "radius is inf"),
        ("radius", None, "radius is None"),
        ("radius", "0.5", "radius is '0.5'"),
        ("radius", -0.5, "radius is -0.5"),
        ("radius", 1e9, "radius is 1000000000.0"),
        ("max_radius", 9.9, "max_radius is 9.9, but the votes give"),
        ("status", "abstained", "status is 'abstained', but the votes give 'certified'"),
        ("status", "lucky", "status is 'lucky'"),
        ("alpha", 2, "alpha is 2"),
        ("sigma", [1], r"sigma is \[1\]"),
        ("seconds", -1.0, "seconds is -1.0"),
        ("grid", [0.25, float("nan")], "grid is nan"),
        ("grid", 3, "not a journal line"),
        ("error", "broken", "status is certified, but the error is 'broken'"),
        ("estimation_counts", [[0, 99.0], [1, 1]], r"estimation_counts holds \[0, 99.0\]"),
        ("looks", [[100, 99, 1]], "looks holds"),
        ("plan", "magic", "plan 'magic' is not known"),
    ],
)
def test_lines_that_no_run_can_have_written_are_refused(
    name: str, value: object, message: str
) -> None:
    fields = fields_of(make_record(origin=None))
    with pytest.raises(ValueError, match=message):
        from_line(json.dumps(fields | {name: value}))


def test_a_line_of_a_later_format_is_refused() -> None:
    with pytest.raises(ValueError, match=r"is of format 3; this version .* reads 1 and 2"):
        from_line(json.dumps(fields_of(make_record()) | {"format": 3}))
