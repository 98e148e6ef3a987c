"""Other people's tables: what their numbers can be, and what they cannot."""

import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.stats import beta, norm

from diffsmooth.cli import verify
from diffsmooth.pipeline.table_check import TableFindings, check_table
from diffsmooth.pipeline.verify_specification import VerifyOptions
from diffsmooth.stats.errors import UserError

HEADER = "idx\tlabel\tpredict\tradius\tcorrect\ttime"
STATED = VerifyOptions(runs=[], n=1000, n0=100, alpha=0.001, sigma=0.25, classes=10)


def radius_of(successes: int, n: int, alpha: float, sigma: float) -> float:
    """CERTIFY's, as its authors' code computes it; 0 where it abstains."""
    bound = alpha ** (1 / n) if successes == n else beta.ppf(alpha, successes, n - successes + 1)
    return float(sigma * max(norm.ppf(bound), 0.0)) if successes else 0.0


def rows_of(counts: list[int], stated: VerifyOptions, form: str) -> list[str]:
    rows = []
    for index, successes in enumerate(counts):
        n, alpha, sigma = stated.n, stated.alpha, stated.sigma
        radius = radius_of(successes, n, alpha, sigma)  # type: ignore[arg-type]
        predict = 3 if radius > 0 else -1
        rows.append(
            f"{index}\t3\t{predict}\t{form.format(radius)}\t{int(predict == 3)}\t0:00:03.25"
        )
    return rows


def checked(path: Path, rows: list[str], stated: VerifyOptions = STATED) -> TableFindings:
    path.write_text("\n".join([HEADER, *rows]) + "\n")
    return check_table(path, stated)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.data(), n=st.sampled_from([50, 1000, 4000]),
    alpha=st.sampled_from([0.001, 0.05]), sigma=st.sampled_from([0.12, 0.25, 1.0]),
    form=st.sampled_from(["{:.3}", "{:.4f}", "{:.6f}", "{}", "{:.2e}"]),
)  # fmt: skip
def test_a_table_of_certify_is_consistent_however_it_is_printed(
    data: st.DataObject, n: int, alpha: float, sigma: float, form: str, tmp_path: Path
) -> None:
    stated = VerifyOptions(runs=[], n=n, alpha=alpha, sigma=sigma)
    counts = data.draw(st.lists(st.sampled_from([n, n - 1]) | st.integers(0, n), min_size=1))
    rows = rows_of(counts, stated, form)
    found = checked(tmp_path / "t", rows, stated)
    has_radius = any(float(row.split("\t")[3]) > 0 for row in rows)
    verdict = "consistent" if has_radius else "cannot tell"
    assert (found.verdict, found.lines) == (verdict, ())


@pytest.mark.parametrize("form", ["{:.3}", "{:.6f}", "{}"])
@pytest.mark.parametrize(("n", "sigma"), [(100, 0.25), (1000, 0.25), (10_000, 0.5), (20_000, 1.0)])
def test_one_printed_digit_beyond_the_largest_contradicts(
    form: str, n: int, sigma: float, tmp_path: Path
) -> None:
    stated = VerifyOptions(runs=[], n=n, alpha=0.001, sigma=sigma)
    largest = radius_of(n, n, 0.001, sigma)
    rows = rows_of([n, n - 1, n], stated, form)
    assert checked(tmp_path / "t", rows, stated).verdict == "consistent"
    step = {"{:.3}": 1e-3 if largest < 1 else 1e-2, "{:.6f}": 1e-6, "{}": 1e-6}[form]
    cells = rows[1].split("\t")
    cells[3] = form.format(largest + 1.01 * step)
    found = checked(tmp_path / "t", [rows[0], "\t".join(cells), rows[2]], stated)
    assert found.verdict == "contradicts"
    note, line = found.lines
    assert line.startswith(f"t, line 3, image 1: radius is {cells[3]}, {n} votes give")
    # By what the note names, and by nothing less, the line may be: as far as its digits tell.
    votes, level = re.search(r": ([\d,]+) votes at .* at alpha (\S+) would", note).groups()  # type: ignore
    votes, level = int(votes.replace(",", "")), float(level)
    changed = [rows[0], "\t".join(cells)]
    for more, verdict in ((0, "consistent"), (-2, "contradicts")):
        other = replace(stated, n=votes + more)
        assert checked(tmp_path / "t", changed, other).verdict in (verdict, "cannot tell")
        assert (checked(tmp_path / "t", changed, other).verdict == "contradicts") == (more < 0)
    for factor in (1.0, 0.9):
        other = replace(stated, alpha=level * factor)
        found = checked(tmp_path / "t", changed, other)
        assert (found.verdict == "contradicts") == (factor < 1)


def test_radii_of_no_count_contradict_nothing_but_nobody_can_tell(tmp_path: Path) -> None:
    rows = rows_of([990, 900, 700], STATED, "{:.6f}")
    cells = rows[1].split("\t")
    cells[3] = f"{float(cells[3]) + 1e-4:.6f}"
    found = checked(tmp_path / "t", [rows[0], "\t".join(cells), rows[2]])
    assert found.verdict == "cannot tell"
    assert "1 of 3 radii are those of no count of 1000 votes" in found.text
    assert found.lines == (f"t, line 3, image 1: radius is {cells[3]}",)


@pytest.mark.parametrize("n", [100, 1000])
def test_how_many_radii_at_random_would_pass_is_said(
    n: int, tmp_path: Path, rng: np.random.Generator
) -> None:
    stated = VerifyOptions(runs=[], n=n, alpha=0.001, sigma=0.25)
    whole = checked(tmp_path / "t", ["0\t3\t3\t0.123\t1\t1.0"], stated).text
    said = float(whole.rpartition("a radius at random: ")[2].partition(" %")[0]) / 100
    radii = rng.uniform(0.01, radius_of(n, n, 0.001, 0.25), 1000)
    rows = [f"{i}\t3\t3\t{radius:.3f}\t1\t1" for i, radius in enumerate(radii)]
    unfit = int(checked(tmp_path / "t", rows, stated).text.split("but ")[1].split(" of ")[0])
    assert 1 - unfit / 1000 == pytest.approx(said, abs=0.05)


def test_of_very_many_votes_the_largest_radius_alone_is_known(tmp_path: Path) -> None:
    stated = VerifyOptions(runs=[], n=10**8, alpha=0.001, sigma=0.25)
    rows = ["0\t3\t3\t1.237\t1\t1.0", "1\t3\t3\t0.123456\t1\t1.0"]
    found = checked(tmp_path / "t", rows, stated)
    assert found.verdict == "cannot tell"
    assert "the radii of 100,000,000 votes lie too close to be told apart" in found.text
    largest = 0.25 * norm.isf(-math.expm1(math.log(0.001) / 10**8))
    assert checked(tmp_path / "t", [rows[0].replace("1.2", "1.4"), rows[1]], stated).lines == (
        "note: neither a billion votes nor an alpha of 0.5 would allow all these radii",
        f"t, line 2, image 0: radius is 1.437, 100000000 votes give {largest:.6f} at most",
    )


FAULTS = {
    "2\t3\t3\t0.279\t0\t1": "correct is 0, which is not predict = label",
    "1\t3\t-1\t0.0\t0\t1": "idx stands on line 3, too",
    "7\t10\t3\t0.279\t0\t1": "label is 10, but there are 10 classes",
    "7\t-2\t3\t0.279\t0\t1": "label is '-2', not a class",
    "7\t2.5\t3\t0.279\t0\t1": "label is '2.5', not a class",
    "7\t1\t77\t0.279\t0\t1": "predict is 77, but there are 10 classes",
    "7\t1\t-2\t0.279\t0\t1": "predict is '-2', not a class, or -1 for abstained",
    "7\t1\t-1\t0.1\t0\t1": "radius is 0.1, but it abstains",
    "7\t1\t1\tinf\t1\t1": "radius is 'inf', not a finite radius",
    "7\t1\t1\tx\t1\t1": "radius is 'x', not a finite radius",
    "7\t1\t1\t0.62\t1\t1": "radius is 0.62, 1000 votes give 0.6158157 at most",
}


@pytest.mark.parametrize("row", FAULTS)
def test_a_planted_fault_contradicts_and_its_line_is_named(row: str, tmp_path: Path) -> None:
    rows = rows_of([1000, 400], STATED, "{:.3}")
    assert checked(tmp_path / "t", rows).verdict == "consistent"
    found = checked(tmp_path / "t", [*rows, row])
    line = f"t, line 4, image {row[0]}: {FAULTS[row]}"
    assert (found.verdict, found.lines[-1]) == ("contradicts", line)
    assert len(found.lines) == 1 + ("at most" in line)
    assert found.text == "1 of 3 lines cannot be"


def test_habits_of_published_tools_are_no_contradictions(tmp_path: Path) -> None:
    rows = rows_of([1000, 400, 900], STATED, "{:.3}")
    running = [rows[0], rows[1].replace("\t0\t", "\t1\t"), rows[2].replace("\t1\t", "\t2\t")]
    found = checked(tmp_path / "t", running)
    assert (found.verdict, found.lines) == (
        "consistent",
        ("note: column correct is a running count",),
    )
    found = checked(tmp_path / "t", [*rows, "7\t3\t3\t-0.2\t1\t1"])
    assert found.verdict == "consistent"
    assert found.lines == ("note: 1 radii are negative, and certify nothing",)
    unknown = ["0\tnan\t3\t0.616\tnan\t1", "1\tnan\t-1\t0\tnan\t1"]
    assert checked(tmp_path / "t", unknown).verdict == "consistent"
    joined = [
        *rows_of([990, 900], STATED, "{:.3}"),
        HEADER,
        rows[0].replace("0", "2", 1),
        "mean 0.5",
    ]
    found = checked(tmp_path / "t", joined)
    assert (found.verdict, found.lines) == (
        "consistent",
        ("note: line 6 is no row and left out: mean 0.5",),
    )


def test_without_what_radii_follow_from_nobody_can_tell(tmp_path: Path) -> None:
    for told in ({}, {"n": 1000}, {"n": 1000, "sigma": 0.25}, {"alpha": 0.1, "sigma": 0.25}):
        found = checked(tmp_path / "t", ["0\t3\t3\t0.6\t1\t1"], VerifyOptions(runs=[], **told))  # type: ignore[arg-type]
        assert found.verdict == "cannot tell"
        assert "follows from --N, --alpha and --sigma" in found.text
    (tmp_path / "p").write_text("idx\tlabel\tpredict\tcorrect\ttime\n0\t3\t3\t1\t1\n")
    assert check_table(tmp_path / "p", STATED).text == (
        "nothing in 1 line contradicts, and there are no radii"
    )
    found = checked(tmp_path / "t", ["0\t3\t-1\t0.0\t0\t1", "1\t3\t-1\t0.0\t0\t1"])
    assert (found.verdict, found.text) == (
        "cannot tell",
        "nothing in 2 lines contradicts, and no image is certified",
    )
    (tmp_path / "p").write_text("idx\tlabel\n0\t3\n")
    with pytest.raises(UserError, match="column 'predict' is missing"):
        check_table(tmp_path / "p", STATED)


def test_the_command_says_so_and_its_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "t.txt"
    table.write_text(f"{HEADER}\n0\t3\t3\t0.616\t1\t1\n")
    words = [str(table), "--N", "1000", "--N0", "100", "--alpha", "0.001", "--sigma", "0.25"]
    verify.main(words)
    assert capsys.readouterr().out.startswith(f"{table}: consistent: nothing in 1 line")
    for more, code in (([], 1), (["--N", "100"], 1), (["--sigma", "-1"], 2), (["--N", "0"], 2)):
        with pytest.raises(SystemExit) as stopped:
            verify.main([*words, *more] if more else words[:1])
        assert stopped.value.code == code
