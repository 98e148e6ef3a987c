"""`diffsmooth report`, as its users call it."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from diffsmooth.cli.report import main
from diffsmooth.runs.line import from_line, to_line
from diffsmooth.stats import FixedSampleSize, ImageRecord

HEADER = "idx\tlabel\tpredict\tradius\tcorrect\ttime\n"
STUDY = "docs/studies/fashion_mnist"

Table = Callable[..., str]


@pytest.fixture
def table(tmp_path: Path) -> Table:
    """Writes a table of images 0, 1 .. of class 3 with these radii; -1 where the radius is 0."""

    def write(name: str, radii: list[float], label: int = 3, step: int = 1) -> str:
        rows = [
            f"{step * i}\t{label}\t{label if radius else -1}\t{radius}\t{int(radius > 0)}\t1.0\n"
            for i, radius in enumerate(radii)
        ]
        path = tmp_path / name
        path.write_text(HEADER + "".join(rows))
        return str(path)

    return write


def test_a_table_by_hand(table: Table, capsys: pytest.CaptureFixture[str]) -> None:
    path = table("sigma_0.25.txt", [0.3, 0.3, 0.6, 0.0])
    main([path, "--decimals", "2"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["0.00", "0.25", "0.50", "ACR", "abstained", "images"]
    assert lines[2].split() == ["sigma_0.25", "0.75", "0.75", "0.25", "0.30", "0.25", "4"]


def test_several_runs_paired_and_enveloped(
    table: Table, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [table("a.txt", [0.3] * 8), table("b.tsv", [0.0] * 2 + [0.9] * 6)]
    main([*paths, "--paired", "--envelope", "--radii", "0.25", "0.5", "--table-alpha", "0.001"])
    out = capsys.readouterr().out
    rows = [line.split() for line in out.splitlines()]
    assert ["a", "1.000", "0.000", "0.300", "0.000", "8"] in rows
    assert ["certified", "accuracy", "1.000", "0.750"] in rows
    assert ["best", "run", "a", "b"] in rows
    assert ["0.25", "+0.250", "2", "0", "0.5", "0.5"] in rows
    assert ["0.50", "-0.750", "0", "6", "0.032", "0.063"] in rows
    assert "p for one radius alone (McNemar), and for all of these p together (Holm)" in out
    assert "appendix D" in out
    assert "read the comparison image by image" in out
    assert "(--paired)" not in out  # it is given


def test_everything_is_written_by_its_ending(
    table: Table, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [table("a.txt", [0.3] * 8), table("b.txt", [0.9] * 8)]
    out = tmp_path / "new"
    names = ["t.txt", "t.md", "t.tex", "t.csv", "f.png", "f.pdf", "f.svg", "r.html"]
    files = [str(out / name) for name in names]
    arguments = ["--table", *files[:4], "--figure", *files[4:7], "--html", files[7]]
    arguments += ["--table-alpha", "0.001"]
    main([*paths, *arguments, "--tensorboard", str(tmp_path / "events"), "--names", "one", "two"])
    shown = capsys.readouterr().out
    assert sorted(path.name for path in out.iterdir()) == sorted(names)
    assert shown.startswith((out / "t.txt").read_text())
    assert "**0.900**" in (out / "t.md").read_text()
    assert r"\textbf{0.900}" in (out / "t.tex").read_text()
    numbers = pd.read_csv(out / "t.csv")
    assert numbers["run"].unique().tolist() == ["one", "two"]
    row = numbers[(numbers["run"] == "one") & (numbers["radius"] == 0.25)].iloc[0]
    assert row["certified_accuracy"] == 1.0
    assert numbers["high_probability_bound"].min() == 0.0  # of no accuracy below
    assert row["low_95"] == pytest.approx(0.025 ** (1 / 8))  # of 8 out of 8
    assert "<html" in (out / "r.html").read_text()
    assert sorted(path.name for path in (tmp_path / "events").iterdir()) == ["one", "two"]
    assert "one against two" not in (out / "r.html").read_text()
    main([*paths, "--html", files[7], "--paired", "--envelope"])
    page = (out / "r.html").read_text()
    assert "a against b, on the same 8 images" in page
    assert "Upper envelope" in page
    assert "read the comparison image by image" in page
    assert "(--paired)" not in page
    assert f"written: {files[0]}" in shown


def test_another_alpha_from_the_votes(capsys: pytest.CaptureFixture[str]) -> None:
    main([f"{STUDY}/cohen.txt", "--radii", "0.5", "1.0", "--alpha", "0.05"])
    looser = capsys.readouterr().out
    main([f"{STUDY}/cohen.txt", "--radii", "0.5", "1.0"])
    own = capsys.readouterr().out
    accuracy = [float(out.splitlines()[2].split()[1]) for out in (own, looser)]
    records = [from_line(line) for line in Path(f"{STUDY}/cohen.jsonl").read_text().splitlines()]
    for alpha, found in zip((0.001, 0.05), accuracy, strict=True):
        held = []
        for record in records:
            old = record.certificate
            run = FixedSampleSize(old.n0, old.n, alpha).start(old.sigma, 10)
            for counts in (old.selection_counts, old.estimation_counts):
                dense = np.zeros(10, dtype=int)
                for k, votes in counts:
                    dense[k] = votes
                run.update(dense)
            again = run.certificate
            held.append(again.prediction == record.label and again.radius >= 0.5)
        assert found == round(sum(held) / len(held), 3)
    assert accuracy[1] > accuracy[0]
    assert "cohen: at alpha 0.05, from the votes that were cast for alpha 0.001" in looser


def test_equal_names_are_told_apart_by_their_folders(
    table: Table, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("x/test", "y/test"):
        (tmp_path / folder).mkdir(parents=True)
    paths = [table("x/test/sigma_0.50", [0.3]), table("y/test/sigma_0.50", [0.3])]
    main(paths)
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [row[0] for row in rows[2:4]] == ["x/test/sigma_0.50", "y/test/sigma_0.50"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["missing.txt"], "missing.txt: no such file"),
        (["."], ".: is a folder, a file is wanted"),
        (["{a}", "{a}"], "a.txt is named twice"),
        (["{a}", "--table", "t.doc"], "t.doc: its name must end in .txt or .md or .tex or .csv"),
        (["{a}", "--figure", "f.bmp"], "f.bmp: its name must end in .png or .pdf or .svg"),
        (["{a}", "--names", "x", "y"], "names must be 1, got 2"),
        (["{a}", "{b}", "--names", "x", "x"], "names must differ in letters and digits, got 'x'"),
        (["{a}", "{b}", "--names", "a/b", "a_b"], "names must differ in letters and digits"),
        (["{a}", "--names", "a\nb"], "names must be printable, got 'a\\nb'"),
        (["{a}", "--table", "{a}"], "a.txt: is of a run, and would be overwritten"),
        (["{a}", "--table", "{a}/../a.txt"], "is not a folder that can be written to"),
        (
            ["{a}", "{b}", "--html", "/proc/nowhere/r.html"],
            "/proc/nowhere: cannot be made",
        ),
        (["{a}", "--html", "x" * 300 + ".html"], "a name in it is longer than 255 bytes"),
        (["{a}", "--table", "x" * 300 + "/t.md"], "a name in it is longer than 255 bytes"),
        (["{a}", "--figure", "x/" * 2100 + "f.png"], "is longer than 4095 bytes"),
        (["{a}", "--names", "x" * 300], "a name in it is longer than 255 bytes"),
        (["{a}", "--table", "{pipe}"], "pipe.csv: is a device or a pipe"),
        (["{a}", "--html", "r.pdf"], "r.pdf: its name must end in .html or .htm"),
        (["{a}", "--figure", "{a}/"], "a.txt: its name must end in .png"),
        (["{a}", "--radii", "-1"], "radii must be >= 0 and finite, got -1.0"),
        (["{a}", "--radii", "1e400"], "radii must be >= 0 and finite, got inf"),
        (["{a}", "--radii", "nan"], "radii element 1 must be a number, got 'nan'"),
        (["{a}", "--decimals", "-1"], "decimals must be in 0 .. 9, got -1"),
        (["{a}", "--alpha", "1"], "alpha must be in (0, 1), got 1.0"),
        (["{a}", "--alpha", "0.01"], "a.txt: has no journal (.jsonl) beside it"),
        (["{a}", "--table-alpha", "0"], "alpha must be in (0, 1), got 0.0"),
        (["{a}", "--paired"], "paired needs two runs or more"),
        (["{a}", "{fewer}", "--paired"], "a.txt, line 3: image 1 is not in"),
        (["{a}", "{other}"], "other.txt, line 2: image 0 has label 5, but on line 2 of"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2_and_nothing_is_written(
    table: Table,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    paths = {
        "a": table("a.txt", [0.3, 0.3]),
        "b": table("b.txt", [0.3, 0.6]),
        "fewer": table("fewer.txt", [0.3]),
        "other": table("other.txt", [0.3, 0.3], label=5),
        "pipe": str(tmp_path / "pipe.csv"),
    }
    os.mkfifo(paths["pipe"])
    out = tmp_path / "out"
    words = [word.format(**paths) for word in words]
    if "--html" not in words:
        words += ["--html", str(out / "r.html")]
    with pytest.raises(SystemExit) as stopped:
        main([*words, "--tensorboard", str(out / "events")])
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("diffsmooth report: error: ")
    assert message in line
    assert not out.exists()


NASTY = b"\x1b[2J\r\xff\xe2\x80\xae$x_y$ *b* `c` [d](e) & %#~^{}|<script>alert(1)<\x5cscript>"


def test_whatever_a_name_contains_it_is_shown_harmlessly(
    table: Table, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [os.fsdecode(start + NASTY) for start in (b"", b"=1+", b"-2")]
    paths = [table(f"{name}.txt", [0.3] * 8) for name in names]
    out = tmp_path / "out"
    files = {e: out / f"t.{e}" for e in ("txt", "md", "tex", "csv", "png", "pdf", "svg", "html")}
    tables = [str(files[ending]) for ending in ("txt", "md", "tex", "csv")]
    figures = [str(files[ending]) for ending in ("png", "pdf", "svg")]
    manifest = {"identity": {"dataset": "\ud800\x1b[2J"}, "context": {"\x1b": "\udcff", "host": 1}}
    Path(paths[0]).with_suffix(".manifest.json").write_text(json.dumps(manifest))
    main([*paths, "--paired", "--envelope", "--table", *tables, "--figure", *figures,
          "--html", str(files["html"]), "--tensorboard", str(tmp_path / "events")])  # fmt: skip
    printed = capsys.readouterr().out
    for text in (printed, *(files[e].read_text() for e in ("txt", "md", "tex", "csv", "html"))):
        assert all(line.isprintable() for line in text.split("\n"))
        assert r"\x1b[2J\r\xff\u202e$x" in text.replace("\\[", "[").replace(r"\$", "$").replace(
            r"\textbackslash{}", "\\").replace("\\\\", "\\")  # fmt: skip
    assert len(list((tmp_path / "events").iterdir())) == 3

    runs = pd.read_csv(files["csv"])["run"]
    assert {name[:3] for name in runs} == {r"\x1", "'=1", "'-2"}
    lines = [line for line in files["md"].read_text().splitlines() if line.startswith("|")]
    unescaped = re.compile(r"(?<!\\)(?:\\\\)*[|]")
    assert {len(unescaped.findall(line)) for line in lines[:5]} == {7}
    assert "<script>" not in re.sub(r"\\<", "", files["md"].read_text())
    page = files["html"].read_text()
    assert page.count("<script") == 2  # the page's own
    assert "&lt;script&gt;" in page
    ElementTree.parse(files["svg"])


def test_a_figure_of_long_names_and_of_letters_that_its_font_lacks(
    table: Table, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["x" * 240, "y" * 240, "\u65e5\u672c"]
    paths = [table(f"{name}.txt", [0.3] * 8) for name in names]
    assert main([*paths, "--figure", str(tmp_path / "f.svg")]) is None  # type: ignore[func-returns-value]
    root = ElementTree.parse(tmp_path / "f.svg").getroot()
    axes = next(group for group in root.iter() if group.get("id") == "patch_2")
    path = next(part for part in axes.iter() if part.tag.endswith("path"))
    corners = np.array(re.findall(r"[ML] ([\d.]+) ([\d.]+)", path.get("d", "")), dtype=float)
    width, height = np.ptp(corners, axis=0)
    assert width > 300
    assert height > 150


def test_names_that_look_alike_are_told_apart_or_refused(
    table: Table, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [table("a\x1b.txt", [0.3]), table("a\\x1b.txt", [0.3])]
    with pytest.raises(SystemExit):
        main(paths)
    assert "give --names" in capsys.readouterr().err
    main([*paths, "--names", "one", "two"])


def test_the_longest_name_of_a_file_can_be_read(table: Table) -> None:
    main([table("x" * 251 + ".txt", [0.3])])  # that of its journal would be too long


def test_radii_that_are_near_each_other_are_told_apart(
    table: Table, capsys: pytest.CaptureFixture[str]
) -> None:
    path = table("a.txt", [0.24996, 0.25, 0.9996])
    main([path, "--radii", "0.24996", "0.25", "0.9996", "0.99960001"])
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[1][:4] == ["0.24996", "0.25", "0.9996", "0.99960001"]
    assert rows[2][:5] == ["a", "1.000", "0.666", "0.333", "0.000"]


def test_a_run_under_two_names_is_one(
    table: Table, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = table("a.txt", [0.3])
    (tmp_path / "x").mkdir()
    for other in (str(tmp_path / "x" / ".." / "a.txt"), str(tmp_path / "a.jsonl")):
        with pytest.raises(SystemExit):
            main([path, other])
        assert "is named twice" in capsys.readouterr().err


def test_a_broken_gallery_leaves_nothing_written(
    table: Table, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = table("a.txt", [0.3])
    (tmp_path / "a.images.npz").write_bytes(b"PK\x03\x04")
    with pytest.raises(SystemExit) as stopped:
        main([path, "--table", str(tmp_path / "t.md")])
    assert stopped.value.code == 2
    assert "a.images.npz: not the images of a run" in capsys.readouterr().err
    assert not (tmp_path / "t.md").exists()


def test_datasets_are_not_mixed(
    table: Table, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [table("a.txt", [0.3]), table("b.txt", [0.3])]
    for name, dataset in (("a", "cifar10"), ("b", "imagenet")):
        manifest = {"identity": {"dataset": dataset}, "context": {}}
        (tmp_path / f"{name}.manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(SystemExit) as stopped:
        main(paths)
    assert stopped.value.code == 2
    assert "b.txt is of imagenet, but" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_one_line(
    table: Table, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as stopped:
        main([table("a.txt", [0.3]), "--html", str(tmp_path / "file" / "r.html")])
    assert stopped.value.code == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


@pytest.mark.parametrize("ending", [".txt", ".tsv"])
def test_the_table_of_a_journal_is_not_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], ending: str
) -> None:
    journal, own = tmp_path / "r.jsonl", tmp_path / f"r{ending}"
    record = ImageRecord(3, 1, 1.0, FixedSampleSize().nothing(0.5), "broken")
    journal.write_text(to_line(record) + "\n")
    own.write_text("precious")
    target = own.with_suffix(".txt")
    link = tmp_path / "other.txt"
    link.symlink_to(own)
    for table in (link, *([target] if target == own else [])):
        with pytest.raises(SystemExit):
            main([str(journal), "--table", str(table)])
        assert "is of a run, and would be overwritten" in capsys.readouterr().err
    assert own.read_text() == "precious"


def test_outputs_that_are_in_each_others_way_are_refused(
    table: Table, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    for words in (
        ["--table", f"{out}/t.csv", "--tensorboard", f"{out}/t.csv"],
        ["--table", f"{out}/t.csv", f"{out}/t.csv/u.txt"],
        ["--html", f"{out}/t.html", "--tensorboard", f"{out}/t.html/events"],
    ):
        with pytest.raises(SystemExit):
            main([table("a.txt", [0.3, 0.3]), *words])
        assert "is to be both a file and a folder" in capsys.readouterr().err
        assert not out.exists()
