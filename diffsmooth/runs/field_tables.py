"""The field's tables of certified radii and of predictions, as they are found."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from diffsmooth.shown_text import shown
from diffsmooth.stats import ABSTAIN, Results
from diffsmooth.stats.errors import UserError
from diffsmooth.stats.results import NO_LABEL

COLUMNS = ("idx", "label", "predict", "correct")
RADIUS, TIME = "radius", "time"  # which not all tables have
LARGEST = 2.0**53  # below, float64 holds every whole number
LOWEST = {"predict": ABSTAIN, RADIUS: -LARGEST}  # of the other columns it is 0
KINDS = {
    TIME: "seconds or h:mm:ss",
    RADIUS: "a finite radius",
    "predict": "a class, or -1 for abstained",
    "label": "a class",
}
TRUTH = {"true": "1", "false": "0"}
COMMENT = ("#", "//", "%")
UTF_16 = (b"\xff\xfe", b"\xfe\xff")
QUOTED = 60  # letters of a line that is left out


class FieldTable(NamedTuple):
    """What a table says.

    Attributes:
        results: by ascending index.
        lines: int64 (M,), the line of each image in the file, from 1.
        remarks: what was wrong with the file and did no harm, one line each.
    """

    results: Results
    lines: np.ndarray
    remarks: tuple[str, ...]


def read_table(path: Path) -> FieldTable:
    """Reads a table separated by tabs, with the columns idx, label, predict and correct.

    Without a column `radius` it is of predictions, without `time` (in seconds or as h:mm:ss) no
    times are known. Other columns are left out, and so is a header that stands again where parts
    were joined. What else is left out or read otherwise is said in remarks: a last line that was
    cut off; comments and lines that are no rows, see `_is_row`; `correct`, which is counted anew
    from label and predict (one published tool writes a running count); a negative radius, which
    certifies nothing. Label and correct may be nan throughout: the labels are not known.

    Raises:
        UserError: broken; the message names the file and the line.
    """
    cells, rows, remarks = read_rows(path)
    _refuse_nan(path, cells, rows)
    again = rows["idx"][rows["idx"].duplicated()]
    if len(again):
        line, index = again.index[0], again.iloc[0]
        before = rows.index[rows["idx"] == index][0]
        raise UserError(f"{path}, line {line}: image {index:.0f} stands on line {before}, too")
    remarks += _remarks_on_correct(rows)
    has_radius = RADIUS in rows
    if has_radius:
        remarks += _without_certificate(rows)
    rows = rows.sort_values("idx")
    index, label, prediction = (rows[n].to_numpy(np.int64) for n in ("idx", "label", "predict"))
    radius = rows[RADIUS].to_numpy(np.float64) if has_radius else np.zeros(len(rows))
    seconds = rows[TIME].to_numpy(np.float64) if TIME in rows else np.full(len(rows), np.nan)
    largest = None if has_radius else 0.0
    results = Results(index, label, prediction, radius, seconds, largest, certifies=has_radius)
    return FieldTable(results, rows.index.to_numpy(np.int64), tuple(remarks))


class FieldRows(NamedTuple):
    """The rows of a table as they stand in the file, by the line's number, from 1.

    Attributes:
        cells: text, of the columns that `read_table` reads.
        numbers: the same as float64; NaN where a cell is not what its column holds.
        remarks: what was left out, one line each.
    """

    cells: pd.DataFrame
    numbers: pd.DataFrame
    remarks: list[str]


def read_rows(path: Path) -> FieldRows:
    """The rows of such a table, whatever they say; see `read_table`, errors included."""
    lines = _lines(path)
    cells, others, last = _cells(path, lines)
    rows = _numbers(cells)
    remarks = []
    if others:
        first = next(iter(others))
        one = len(others) == 1
        which = f"line {first} is no row" if one else f"{len(others)} lines are no rows"
        begins = "" if one else f", the first is line {first}"
        remarks.append(f"{which} and left out{begins}: {shown(others[first])[:QUOTED]}")
    whole = last in rows.index and not rows.loc[last].isna().any()
    if last == len(lines) and lines[-1] and not whole:  # it has no end of line
        remarks.append(f"line {last}, the last, is cut off and left out")
        cells, rows = cells.drop(last, errors="ignore"), rows.drop(last, errors="ignore")
    if rows.empty:
        raise UserError(f"{path}, line {last}: there is no image in it")
    return FieldRows(cells, rows, remarks)


def _lines(path: Path) -> list[str]:
    """The lines; the last is empty unless it has no end of line."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    try:  # a table that was redirected on Windows is UTF-16, and says so
        text = content.decode("utf-16" if content.startswith(UTF_16) else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a table, not even text") from error
    if not text.strip():
        raise UserError(f"{path}, line 1: the file is empty")
    return [line.rstrip("\r") for line in text.split("\n")]


def _cells(path: Path, lines: list[str]) -> tuple[pd.DataFrame, dict[int, str], int]:
    """The cells of the wanted columns as text, and the lines that are no rows, by line number.

    The number of the last line that may be a row is given, too. It is among the cells unless it is
    surely cut off.
    """
    split = [[cell.strip() for cell in line.split("\t")] for line in lines]
    filled = [i for i, line in enumerate(lines) if line.strip()]
    top = next((i for i in filled if not lines[i].startswith(COMMENT)), filled[0])
    header = split[top]
    for name in (*COLUMNS, RADIUS, TIME):
        count = header.count(name)
        if count > 1 or (not count and name in COLUMNS):
            problem = "stands twice" if count else "is missing"
            how = "" if len(header) > 1 else ": the columns are separated by tabs"
            raise UserError(f"{path}, line {top + 1}: column {name!r} {problem}{how}")
    wanted = [name for name in (*COLUMNS, TIME, RADIUS) if name in header]
    rows: dict[int, list[str]] = {}
    others: dict[int, str] = {}
    open_end = False  # whether a row may still follow before the next header
    last = top + 1
    for i in reversed(filled):
        if split[i] == header:
            open_end = False
        elif not _is_row(split[i], lines[i], open_end):
            others[i + 1] = lines[i]
        else:
            last = max(last, i + 1)
            open_end = True
            is_torn = i + 1 == len(lines)
            if len(split[i]) == len(header):
                # A cut number may still be a number, but no harm is done in the time.
                if not is_torn or header[-1] == TIME:
                    rows[i + 1] = [split[i][header.index(name)] for name in wanted]
            elif not is_torn:
                raise UserError(
                    f"{path}, line {i + 1}: {len(split[i])} columns, but the header has "
                    f"{len(header)}"
                )
    cells = pd.DataFrame.from_dict(rows, orient="index", columns=wanted, dtype=str).iloc[::-1]
    return cells, dict(sorted(others.items())), last if rows else len(lines)


def _is_row(cells: list[str], line: str, rows_follow: bool) -> bool:
    """Whether a line is a row, if perhaps a broken one.

    No row are comments, a line of words without a tab, and what does not begin with a number after
    the last row, such as the summary that some tools close their tables with.
    """
    if line.startswith(COMMENT):
        return False
    try:
        float(cells[0])
    except ValueError:
        return rows_follow and len(cells) > 1
    return True


def _numbers(cells: pd.DataFrame) -> pd.DataFrame:
    """The cells as numbers; NaN where one is not what its column holds."""
    text = cells.assign(correct=cells["correct"].str.lower().replace(TRUTH))
    rows = text.apply(pd.to_numeric, errors="coerce").astype(np.float64)
    if TIME in rows:
        spans = pd.to_timedelta(cells[TIME][rows[TIME].isna()], errors="coerce")
        rows[TIME] = rows[TIME].fillna(spans.dt.total_seconds())
    lowest = rows.columns.map(lambda name: LOWEST.get(name, 0))
    sound = (rows < LARGEST) & (rows >= lowest)
    counts = rows.columns.difference([TIME, RADIUS])
    sound[counts] &= rows[counts] == rows[counts].round()
    rows = rows.where(sound)
    if len(cells) and (cells[["label", "correct"]] == "nan").all(axis=None):
        rows[["label", "correct"]] = NO_LABEL, 0.0
    return rows


def _refuse_nan(path: Path, cells: pd.DataFrame, rows: pd.DataFrame) -> None:
    for row, column in np.argwhere(rows.isna().to_numpy()):
        name, cell = cells.columns[column], cells.iat[row, column]
        kind = KINDS.get(name, "a count")
        raise UserError(f"{path}, line {cells.index[row]}: {name} is {cell!r}, not {kind}")


def _without_certificate(rows: pd.DataFrame) -> list[str]:
    """Makes radii 0 that certify nothing, in place, and says which."""
    remarks = []
    abstained = rows["predict"] == ABSTAIN
    contradict = abstained & (rows[RADIUS] > 0)
    if contradict.any():
        line = rows.index[contradict][0]
        one = contradict.sum() == 1
        which = "1 line abstains" if one else f"{contradict.sum()} lines abstain"
        remarks.append(f"{which} with a radius, the first is line {line}: it is taken as 0")
    negative = rows[RADIUS] < 0
    if negative.any():
        line = rows.index[negative][0]
        right = negative & (rows["predict"] == rows["label"])
        how = f"; {right.sum()} of them, predicted rightly, count as abstained" * bool(right.any())
        remarks.append(
            f"the radius is negative on {negative.sum()} lines, the first is line {line}: not "
            f"certified{how}"
        )
        rows.loc[right, "predict"] = ABSTAIN
    rows.loc[contradict | negative, RADIUS] = 0.0
    return remarks


def _remarks_on_correct(rows: pd.DataFrame) -> list[str]:
    """What the file calls correct, where that is not predict = label."""
    differs = wrongly_correct(rows)
    if differs is None:
        fault = "is a running count"
    elif len(differs):
        fault = f"is not predict = label on {len(differs)} lines, first on line {differs[0]}"
    else:
        return []
    return [
        f"column correct {fault}: counted anew from label and predict; quote no number that was "
        "counted from that column"
    ]


def wrongly_correct(rows: pd.DataFrame) -> np.ndarray | None:
    """The lines on which `correct` is not predict = label; None where it is a running count."""
    right = (rows["predict"] == rows["label"]).to_numpy().astype(int)
    said = rows["correct"].to_numpy()
    if said.max() > 1 and np.array_equal(said, right.cumsum() + said[0] - right[0]):
        return None
    return rows.index.to_numpy()[said != right]
