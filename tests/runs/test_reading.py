"""Journals and tables, ours and those of the field as they are in the wild."""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffsmooth.report import read_results
from diffsmooth.runs.gallery import GalleryImage, read_gallery, write_gallery
from diffsmooth.runs.line import to_line
from diffsmooth.runs.names import RunFiles
from diffsmooth.runs.reading import read_run
from diffsmooth.stats import (
    FixedSampleSize,
    ImageRecord,
    MajorityVote,
    average_certified_radius,
    certified_accuracy,
)
from diffsmooth.stats.results import CERTIFY_COLUMNS, PREDICT_COLUMNS, to_tsv

HEADER = "idx\tlabel\tpredict\tradius\tcorrect\ttime\n"
ROW = "0\t3\t3\t0.5\t1\t1.5\n"


def write(folder: Path, content: str, name: str = "r.txt") -> Path:
    path = folder / name
    path.write_text(content)
    return path


def test_a_table_is_read_by_ascending_index(tmp_path: Path) -> None:
    content = HEADER + "7\t1\t1\t0.5\t1\t0:00:02.500000\n3\t2\t-1\t0.0\t0\t1.5\n"
    run = read_run(write(tmp_path, content))
    results = run.results
    assert results.index.tolist() == [3, 7]
    assert results.prediction.tolist() == [-1, 1]
    assert results.radius.tolist() == [0.0, 0.5]
    assert results.seconds.tolist() == [1.5, 2.5]
    assert results.max_radius is None
    assert (run.name, run.lines.tolist(), run.remarks) == ("r", [3, 2], ())


@pytest.mark.parametrize(
    ("cell", "radius"), [("0.3200", 0.32), ("7.63e-05", 7.63e-05), ("0.0", 0.0), (" 1.25", 1.25)]
)
def test_radii_as_they_are_written(tmp_path: Path, cell: str, radius: float) -> None:
    path = write(tmp_path, HEADER + f"0\t3\t3\t{cell}\t1\t1.5\n")
    assert read_results(path).radius.tolist() == [radius]


@pytest.mark.parametrize(
    ("cell", "seconds"),
    [
        ("13.7", 13.7),
        ("0:02:30.529743", 150.529743),
        ("0:00:13", 13.0),
        ("1 day, 2:03:04.5", 93784.5),
    ],
)
def test_times_as_they_are_written(tmp_path: Path, cell: str, seconds: float) -> None:
    path = write(tmp_path, HEADER + f"0\t3\t3\t0.5\t1\t{cell}\n")
    assert read_results(path).seconds.tolist() == [pytest.approx(seconds)]


def test_a_table_without_times_is_read(tmp_path: Path) -> None:
    """As results/merge_results.py of DensePure writes them."""
    content = "idx\tlabel\tpredict\tradius\tcorrect\n0\t3\t3\t0.5\t1\n2\t3\t5\t0.25\t0\n"
    run = read_run(write(tmp_path, content))
    assert run.results.radius.tolist() == [0.5, 0.25]
    assert np.isnan(run.results.seconds).all()
    assert run.remarks == ()
    torn = read_run(write(tmp_path, content.rstrip("\n")))  # 0 may be the begin of a number
    assert torn.results.index.tolist() == [0]


def test_other_columns_in_any_order_are_left_out(tmp_path: Path) -> None:
    content = (
        "idx\tlabel\tbasePredict\tpredict\tcorrect\tradius\ttime\n"
        "0\t3\t5\t3\tTrue\t0.5\t1.5\n2\t3\t3\t5\tFalse\t0.25\t1.5\n"
    )
    run = read_run(write(tmp_path, content))
    assert run.results.prediction.tolist() == [3, 5]
    assert run.results.radius.tolist() == [0.5, 0.25]
    assert run.remarks == ()


def test_predictions_have_no_radii(tmp_path: Path) -> None:
    content = "idx\tlabel\tpredict\tcorrect\ttime\n0\t3\t3\t1\t1.5\n2\t3\t-1\t0\t1.5\n"
    results = read_results(write(tmp_path, content))
    assert not results.certifies
    assert results.correct.tolist() == [True, False]


def test_windows_line_ends_a_byte_order_mark_blank_lines_and_joined_parts(tmp_path: Path) -> None:
    path = tmp_path / "r.txt"
    other = ROW.replace("0\t3", "1\t3")
    path.write_bytes(
        ("\ufeff" + HEADER + ROW + "\n" + HEADER + other).replace("\n", "\r\n").encode()
    )
    run = read_run(path)
    assert run.results.index.tolist() == [0, 1]
    assert run.lines.tolist() == [2, 5]


@given(cut=st.integers(1, len(ROW) - 1))
def test_a_last_line_that_was_cut_off_never_gives_another_certificate(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    torn = ROW.replace("0\t3", "8\t3", 1)[:cut]
    run = read_run(write(tmp_path_factory.mktemp("t"), HEADER + ROW + torn))
    if torn.count("\t") < 5 or torn.endswith("\t"):
        assert run.results.index.tolist() == [0]
        assert run.remarks == ("line 3, the last, is cut off and left out",)
    else:  # cut within its time
        assert run.results.radius.tolist() == [0.5, 0.5]


def test_a_torn_radius_is_no_radius(tmp_path: Path) -> None:
    header = "idx\tlabel\tpredict\tcorrect\ttime\tradius\n"
    rows = "0\t3\t3\t1\t1.5\t0.5\n2\t3\t3\t1\t1.5\t7.63"  # of 7.63e-05
    run = read_run(write(tmp_path, header + rows))
    assert run.results.radius.tolist() == [0.5]
    assert run.remarks == ("line 3, the last, is cut off and left out",)


def test_a_running_count_in_the_column_correct_is_found(tmp_path: Path) -> None:
    rows = [
        "0\t3\t3\t0.5\t1\t1\n",
        "1\t3\t5\t0.5\t1\t1\n",
        "2\t3\t-1\t0\t1\t1\n",
        "3\t4\t4\t1\t2\t1\n",
    ]
    run = read_run(write(tmp_path, HEADER + "".join(rows)))
    assert run.results.correct.tolist() == [True, False, False, True]
    assert run.remarks == (
        "column correct is a running count: counted anew from label and predict; quote no number "
        "that was counted from that column",
    )
    later = read_run(write(tmp_path, HEADER + "".join(rows[1:])))  # begun before this part
    assert "is a running count" in later.remarks[0]
    never = read_run(write(tmp_path, HEADER + ROW.replace("\t1\t1.5", "\t0\t1.5") + rows[1]))
    assert "is not predict = label" in never.remarks[0]


def test_what_else_stands_in_the_column_correct_is_said(tmp_path: Path) -> None:
    content = HEADER + ROW + "1\t3\t5\t0.5\t1\t1\n2\t3\t3\t0.5\t0\t1\n"
    run = read_run(write(tmp_path, content))
    assert run.results.correct.tolist() == [True, False, True]
    assert run.remarks[0].startswith(
        "column correct is not predict = label on 2 lines, first on line 3"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "line 1: the file is empty"),
        ("\n\n", "line 1: the file is empty"),
        (HEADER, "line 2: there is no image in it"),
        ("idx\tlabel\n1\t2\n", "line 1: column 'predict' is missing"),
        (ROW, "line 1: column 'idx' is missing"),
        ("idx\tidx\tlabel\tpredict\tcorrect\ttime\n", "line 1: column 'idx' stands twice"),
        (HEADER + "1\t2\t3\tx\t0\t1\n", "line 2: radius is 'x', not a finite radius"),
        (HEADER + "1\t2\t3\tnan\t0\t1\n", "line 2: radius is 'nan', not a finite radius"),
        (HEADER + "1\t2\t3\tinf\t0\t1\n", "line 2: radius is 'inf', not a finite radius"),
        (HEADER + "1\t2\t3\t-inf\t0\t1\n", "line 2: radius is '-inf', not a finite radius"),
        (HEADER + ROW + "1\t2\tnan\t0.1\t0\t1\n", "line 3: predict is 'nan', not a class, or -1"),
        (HEADER + ROW + "1\t2\t-2\t0.1\t0\t1\n", "line 3: predict is '-2', not a class, or -1"),
        (HEADER + ROW + "1\t2.5\t1\t0.1\t0\t1\n", "line 3: label is '2.5', not a class"),
        (HEADER + ROW + "1\t2\t1\t0.1\t0\tlong\n", "line 3: time is 'long', not seconds or"),
        (HEADER + ROW + "1\t2\t1\t0.1\t\t1\n", "line 3: correct is '', not a count"),
        (HEADER + ROW + "1\t2\t1\n" + ROW, "line 3: 3 columns, but the header has 6"),
        (HEADER + ROW + "500\n", "line 3: 1 columns, but the header has 6"),
        (HEADER + ROW + "x1\t2\t1\t0.5\t0\t1\n" + ROW, "line 3: idx is 'x1', not a count"),
        (HEADER + ROW + f"{'9' * 400}\t2\t1\t0.5\t0\t1\n", "line 3: idx is '99"),
        (HEADER + ROW + "1\t2\t1\t0.5\t0\t-1\n", "line 3: time is '-1', not seconds"),
        (
            HEADER.replace("\t", " "),
            "line 1: column 'idx' is missing: the columns are separated by",
        ),
        (HEADER.replace("time", "radius\ttime"), "line 1: column 'radius' stands twice"),
        ("# by certify\nlabel\tpredict\n", "line 2: column 'idx' is missing"),
        (HEADER + ROW + ROW, "line 3: image 0 stands on line 2, too"),
    ],
)
def test_broken_tables_are_named_by_file_and_line(
    tmp_path: Path, content: str, message: str
) -> None:
    with pytest.raises(ValueError, match=rf"r\.txt, {message}"):
        read_results(write(tmp_path, content))


CLOSING = "CleanACC = 395/500 = 0.79\n"


@pytest.mark.parametrize(
    ("content", "remark"),
    [
        (HEADER + ROW + CLOSING, f"line 3 is no row and left out: {CLOSING.strip()}"),
        (HEADER + ROW + CLOSING.strip(), f"line 3 is no row and left out: {CLOSING.strip()}"),
        (HEADER + ROW + "mean\t\t\t0.5\t1\t1.5\n", "line 3 is no row and left out: mean\\t"),
        (HEADER + ROW + "\n" + CLOSING + "\n", "line 4 is no row and left out: CleanACC"),
        (
            "# sigma 0.5\n" + HEADER + "# more\n" + ROW,
            "2 lines are no rows and left out, the first",
        ),
        (HEADER + "\x1b[2Jpwned\n" + ROW, r"line 2 is no row and left out: \x1b[2Jpwned"),
    ],
)
def test_lines_that_are_no_rows_are_left_out_and_said(
    tmp_path: Path, content: str, remark: str
) -> None:
    run = read_run(write(tmp_path, content))
    assert run.results.radius.tolist() == [0.5]
    assert len(run.remarks) == 1
    assert run.remarks[0].startswith(remark)


def test_each_of_joined_parts_may_have_a_closing_line(tmp_path: Path) -> None:
    other = ROW.replace("0\t3", "1\t3", 1)
    summary = CLOSING.replace(" = ", "\t")
    run = read_run(write(tmp_path, HEADER + ROW + summary + HEADER + other + summary))
    assert run.results.index.tolist() == [0, 1]
    assert run.lines.tolist() == [2, 5]
    assert run.remarks[0].startswith("2 lines are no rows and left out, the first is line 3: Clean")


def test_a_negative_radius_certifies_nothing_not_even_at_0(tmp_path: Path) -> None:
    rows = "1\t3\t3\t-1.0\t1\t1\n2\t3\t5\t-1.0\t0\t1\n3\t3\t-1\t-1.0\t0\t1\n"
    run = read_run(write(tmp_path, HEADER + ROW + rows))
    results = run.results
    assert results.radius.tolist() == [0.5, 0.0, 0.0, 0.0]
    assert results.prediction.tolist() == [3, -1, 5, -1]
    assert certified_accuracy(results, [0.0]).tolist() == [0.25]
    assert average_certified_radius(results) == 0.125
    assert run.remarks == (
        "the radius is negative on 3 lines, the first is line 3: not certified; 1 of them, "
        "predicted rightly, count as abstained",
    )


def test_who_abstains_has_no_radius(tmp_path: Path) -> None:
    run = read_run(write(tmp_path, HEADER + ROW + "1\t3\t-1\t0.7\t0\t1\n"))
    assert run.results.radius.tolist() == [0.5, 0.0]
    assert run.remarks[0].startswith("1 line abstains with a radius, the first is line 3")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_tables_that_windows_redirected(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "r.txt"
    path.write_bytes((HEADER + ROW).replace("\n", "\r\n").encode(encoding))
    assert read_results(path).radius.tolist() == [0.5]


def test_numbers_as_other_tools_write_them(tmp_path: Path) -> None:
    run = read_run(write(tmp_path, HEADER + "0.0\t3.0\t-1.0\t-0.0\tfalse\t1e1\n"))
    results = run.results
    assert (results.index[0], results.label[0], results.prediction[0]) == (0, 3, -1)
    assert (results.radius[0], results.seconds[0], run.remarks) == (0.0, 10.0, ())


def test_what_is_not_text_is_no_table(tmp_path: Path) -> None:
    for name in ("r.txt", "r.jsonl"):
        path = tmp_path / name
        path.write_bytes(b"PK\x03\x04\xff\xfe")
        with pytest.raises(ValueError, match=rf"{name}: not a .*, not even text"):
            read_results(path)
        path.unlink()
    with pytest.raises(ValueError, match="no such file"):
        read_results(tmp_path / "missing.jsonl")


def records() -> list[ImageRecord]:
    plan = FixedSampleSize(n0=1, n=100)
    run = plan.start(0.5, 2)
    run.update(np.array([1, 0]))
    run.update(np.array([99, 1]))
    failed = ImageRecord(5, 1, 1.0, plan.nothing(0.5), "no pixels")
    return [ImageRecord(3, 0, 1.0, run.certificate), failed]


def journal(lines: list[ImageRecord]) -> str:
    return "".join(to_line(record) + "\n" for record in lines)


def test_a_table_knows_the_plan_by_the_journal_beside_it(tmp_path: Path) -> None:
    table = write(tmp_path, to_tsv(records(), CERTIFY_COLUMNS))
    assert read_results(table).plan is None
    beside = write(tmp_path, journal(records()), "r.jsonl")
    for path in (table, beside):
        run = read_run(path)
        assert (run.results.plan, run.results.sigma, run.results.alpha) == ("fixed", 0.5, 0.001)
        assert run.results.count("failed") == 1
        assert [record.index for record in run.records] == [3, 5]
    write(tmp_path, to_tsv(records()[:1], CERTIFY_COLUMNS))
    with pytest.raises(ValueError, match=r"r\.txt: is not of the same run as .*r\.jsonl"):
        read_results(table)


def test_a_journal_of_a_running_job(tmp_path: Path) -> None:
    lines = journal(records()[::-1])
    run = read_run(write(tmp_path, lines + lines[:50], "r.jsonl"))
    assert run.lines.tolist() == [2, 1]
    whole = read_run(write(tmp_path, lines[:-1], "r.jsonl"))
    assert (len(whole.results), whole.remarks) == (2, ())
    assert run.remarks == ("line 3, the last, is cut off and left out",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}\n", "line 1: not a journal line"),
        ("", "line 1: there is no image in it"),
        (journal(records()) + "\n", "line 3"),
        (
            journal([*records(), replace(records()[0], label=1)]),
            "line 3: image 3 has other votes on line 1",
        ),
        (
            "".join(
                to_line(ImageRecord(i, 0, 1.0, FixedSampleSize(n=i).nothing(0.5), "broken")) + "\n"
                for i in (50, 60)
            ),
            "records of different plans",
        ),
    ],
)
def test_broken_journals_are_named_by_file_and_line(
    tmp_path: Path, content: str, message: str
) -> None:
    path = write(tmp_path, content, "r.jsonl")
    with pytest.raises(ValueError, match=rf"r\.jsonl(:|,) {message}"):
        read_results(path)


def test_our_predictions_are_read_from_table_and_journal(tmp_path: Path) -> None:
    plan = MajorityVote(n=100)
    run = plan.start(0.5, 2)
    run.update(np.array([0, 100]))
    lines = [ImageRecord(3, 1, 1.0, run.certificate)]
    for path in (
        write(tmp_path, to_tsv(lines, PREDICT_COLUMNS)),
        write(tmp_path, journal(lines), "r.jsonl"),
    ):
        results = read_results(path)
        assert not results.certifies
        assert results.correct.tolist() == [True]


def test_the_manifest_and_the_gallery_lie_beside(tmp_path: Path) -> None:
    path = write(tmp_path, HEADER + ROW, "sigma_0.25")
    assert RunFiles(path).name == "sigma_0.25"
    assert read_run(path).identity == {}
    manifest = {"identity": {"dataset": "cifar10"}, "context": {"host": "here"}}
    write(tmp_path, json.dumps(manifest), "sigma_0.25.manifest.json")
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 2, 2)
    image = GalleryImage(0, pixels, pixels + 1, pixels + 2, np.stack([pixels, pixels + 3]))
    write_gallery(tmp_path / "sigma_0.25.images.npz", [image])
    run = read_run(path)
    assert (run.dataset, run.context) == ("cifar10", {"host": "here"})
    (kept,) = run.gallery
    assert kept.index == 0
    for name in ("original", "noisy", "purified", "copies"):
        np.testing.assert_array_equal(getattr(kept, name), getattr(image, name))


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"identity": {}}',
        '{"identity": 1, "context": 2}',
        '{"identity": [], "context": []}',
    ],
)
def test_broken_manifests_are_named(tmp_path: Path, content: str) -> None:
    path = write(tmp_path, HEADER + ROW)
    write(tmp_path, content, "r.manifest.json")
    with pytest.raises(ValueError, match=r"r\.manifest\.json: not a manifest"):
        read_run(path)


def test_broken_galleries_are_named(tmp_path: Path) -> None:
    path = write(tmp_path, "no archive", "r.images.npz")
    with pytest.raises(ValueError, match=r"r\.images\.npz: not the images of a run"):
        read_gallery(path)
    whole = io.BytesIO()
    np.savez(whole, index=np.zeros(1))
    array = io.BytesIO()
    np.save(array, np.zeros(1))
    for content in (whole.getvalue(), whole.getvalue()[:50], array.getvalue(), b"PK\x03\x04x"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"r\.images\.npz: not the images of a run"):
            read_gallery(path)


@pytest.mark.parametrize(
    "change",
    [
        {"index": np.int64(0)},
        {"original": np.zeros((1, 3, 2, 2))},
        {"noisy": np.zeros((1, 5, 2, 2), np.uint8)},
        {"purified": np.zeros((2, 3, 2, 2), np.uint8)},
        {"copies": np.zeros((1, 3, 2, 2), np.uint8)},
        {
            **dict.fromkeys(("original", "noisy", "purified"), np.zeros((1, 3, 0, 4), np.uint8)),
            "copies": np.zeros((1, 2, 3, 0, 4), np.uint8),
        },
    ],
)
def test_galleries_of_other_shapes_are_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    arrays: dict[str, Any] = {
        "index": np.zeros(1, int),
        "copies": np.zeros((1, 2, 3, 2, 2), np.uint8),
    }
    arrays |= dict.fromkeys(("original", "noisy", "purified"), np.zeros((1, 3, 2, 2), np.uint8))
    path = tmp_path / "r.images.npz"
    np.savez(path, **arrays)
    assert len(read_gallery(path)) == 1
    np.savez(path, **arrays | change)
    with pytest.raises(ValueError, match="other types or shapes"):
        read_gallery(path)
