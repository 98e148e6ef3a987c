"""The field's tables of certified radii and of predictions, as they are found."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from diffsmooth.stats import ABSTAIN, Results

COLUMNS = ("idx", "label", "predict", "correct", "time")
RADIUS = "radius"
LARGEST = 2.0**53  # below, float64 holds every whole number
TRUTH = {"true": "1", "false": "0"}


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
    """Reads a table separated by tabs, with the columns idx, label, predict, correct and time.

    Without a column `radius` it is of predictions. Other columns are left out, and so is a header
    that stands again where parts were joined. A last line that was cut off is dropped. The time is
    in seconds or as h:mm:ss. `correct` is counted anew from label and predict; a remark says where
    the file has something else, such as the running count that one published tool writes.

    Raises:
        ValueError: broken; the message names the file and the line.
    """
    lines = _lines(path)
    cells = _cells(path, lines)
    rows = _numbers(cells)
    remarks = []
    last = len(lines)
    # A cut number may still be a number, but no harm is done in the time.
    ends_with_time = lines[0].split("\t")[-1].strip() == "time"
    whole = last in rows.index and not rows.loc[last].isna().any() and ends_with_time
    if lines[-1] and not whole:
        remarks.append(f"line {last}, the last, is cut off and left out")  # it has no end of line
        cells, rows = cells.drop(last, errors="ignore"), rows.drop(last, errors="ignore")
    if rows.empty:
        raise ValueError(f"{path}, line {last}: there is no image in it")
    _refuse_nan(path, cells, rows)
    again = rows["idx"][rows["idx"].duplicated()]
    if len(again):
        line, index = again.index[0], again.iloc[0]
        before = rows.index[rows["idx"] == index][0]
        raise ValueError(f"{path}, line {line}: image {index:.0f} stands on line {before}, too")
    remarks += _remarks_on_correct(rows)
    rows = rows.sort_values("idx")
    has_radius = RADIUS in rows
    results = Results(
        index=rows["idx"].to_numpy(np.int64),
        label=rows["label"].to_numpy(np.int64),
        prediction=rows["predict"].to_numpy(np.int64),
        radius=rows[RADIUS].to_numpy(np.float64) if has_radius else np.zeros(len(rows)),
        seconds=rows["time"].to_numpy(np.float64),
        max_radius=None if has_radius else 0.0,
        certifies=has_radius,
    )
    return FieldTable(results, rows.index.to_numpy(np.int64), tuple(remarks))


def _lines(path: Path) -> list[str]:
    """The lines; the last is empty unless it has no end of line."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not a table, not even text") from error
    if not text.strip():
        raise ValueError(f"{path}, line 1: the file is empty")
    return [line.rstrip("\r") for line in text.split("\n")]


def _cells(path: Path, lines: list[str]) -> pd.DataFrame:
    """The cells of the wanted columns as text, by line number."""
    header = [name.strip() for name in lines[0].split("\t")]
    for name in COLUMNS:
        if header.count(name) != 1:
            problem = "is missing" if name not in header else "stands twice"
            raise ValueError(f"{path}, line 1: column {name!r} {problem}")
    wanted = [name for name in (*COLUMNS, RADIUS) if name in header]
    rows: dict[int, list[str]] = {}
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip() or line == lines[0]:
            continue
        found = [cell.strip() for cell in line.split("\t")]
        if len(found) == len(header):
            rows[number] = [found[header.index(name)] for name in wanted]
        elif number < len(lines):
            raise ValueError(
                f"{path}, line {number}: {len(found)} columns, but the header has {len(header)}"
            )
    return pd.DataFrame.from_dict(rows, orient="index", columns=wanted, dtype=str)


def _numbers(cells: pd.DataFrame) -> pd.DataFrame:
    """The cells as numbers; NaN where one is not what its column holds."""
    text = cells.assign(correct=cells["correct"].str.lower().replace(TRUTH))
    rows = text.apply(pd.to_numeric, errors="coerce").astype(np.float64)
    spans = cells["time"][rows["time"].isna()]
    rows["time"] = rows["time"].fillna(pd.to_timedelta(spans, errors="coerce").dt.total_seconds())
    lowest = rows.columns.map(lambda name: ABSTAIN if name == "predict" else 0)
    sound = (rows < LARGEST) & (rows >= lowest)
    counts = rows.columns.difference(["time", RADIUS])
    sound[counts] &= rows[counts] == rows[counts].round()
    return rows.where(sound)


def _refuse_nan(path: Path, cells: pd.DataFrame, rows: pd.DataFrame) -> None:
    kinds = {
        "time": "seconds or h:mm:ss",
        RADIUS: "a radius, finite and >= 0",
        "predict": "a class, or -1 for abstained",
        "label": "a class",
    }
    for row, column in np.argwhere(rows.isna().to_numpy()):
        name, cell = cells.columns[column], cells.iat[row, column]
        kind = kinds.get(name, "a count")
        raise ValueError(f"{path}, line {cells.index[row]}: {name} is {cell!r}, not {kind}")


def _remarks_on_correct(rows: pd.DataFrame) -> list[str]:
    """What the file calls correct, where that is not predict = label."""
    right = (rows["predict"] == rows["label"]).to_numpy().astype(int)
    said = rows["correct"].to_numpy()
    differs = said != right
    if not differs.any():
        return []
    if said.max() > 1 and np.array_equal(said, right.cumsum() + said[0] - right[0]):
        fault = "is a running count"
    else:
        line = rows.index[int(np.argmax(differs))]
        fault = f"is not predict = label on {differs.sum()} lines, first on line {line}"
    return [f"column correct {fault}: counted anew from label and predict"]
