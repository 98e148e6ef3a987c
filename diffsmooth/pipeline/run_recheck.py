"""Do the files of a finished run follow from its votes? What does not is told, and none is hidden.

The run is read here line by line, so that one fault does not keep others from being told. What
stands is then read once more as everybody reads it, and must be the same to the last bit.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import ROUND_FLOOR, Decimal
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from diffsmooth.lit.data.names import DATASETS
from diffsmooth.models.classifiers.dataset_info import DatasetInfo
from diffsmooth.pipeline.exact_votes import ExactPlan
from diffsmooth.pipeline.recheck import Expected, Finding, is_count, line_faults, parse_line
from diffsmooth.runs.identity import RunIdentity, stored_selection
from diffsmooth.runs.line import from_line
from diffsmooth.runs.manifest import Manifest, computed_by, read_manifest
from diffsmooth.runs.names import RunFiles
from diffsmooth.shown_text import quoted, shown
from diffsmooth.stats import ImageRecord
from diffsmooth.stats.certificate import NO_CLASS
from diffsmooth.stats.errors import UserError
from diffsmooth.stats.plan_words import plan_of_text
from diffsmooth.stats.registry import names_code
from diffsmooth.stats.results import CERTIFY_COLUMNS, PREDICT_COLUMNS

NAMED = 1000  # missing images that are named, each by a fault
SECONDS = re.compile(r"\d+\.\d{4}")
BOUND = ("identity", "noise_source", "image_shape", "sigma")  # of a line, by the manifest
ONE = ("plan", "max_n", "alpha", "sigma", "grid", "tolerance", "first_look")  # of all lines
TO_THE_BIT = ("p_lower", "radius", "max_radius")


class Fault(NamedTuple):
    """What does not follow, and where it stands.

    Attributes:
        file: its name.
        line: from 1; 0 where it is of the whole file.
        image: its index; None where it is of none.
        field: of the record, the table or the manifest.
        text: what is wrong, to be read after the field.
    """

    file: str
    line: int
    image: object
    field: str
    text: str

    def __str__(self) -> str:
        line = f", line {self.line}" if self.line else ""
        image = "" if self.image is None else f", image {self.image}"
        return shown(f"{self.file}{line}{image}: {self.field} {self.text}")


class Record(NamedTuple):
    """A line of a journal, as it stands there."""

    number: int
    fields: Mapping[str, Any]


class Rechecked(NamedTuple):
    """What was found of a run.

    Attributes:
        faults: what does not follow; empty where all does.
        records: the lines that can be read.
        manifest: None where there is none.
    """

    faults: tuple[Fault, ...]
    records: tuple[Record, ...]
    manifest: Manifest | None


def recheck_run(files: RunFiles) -> Rechecked:
    """Checks manifest, journal and tables of a run, which is only read.

    Raises:
        UserError: it is none of certify or predict, or its plan is another package's.
    """
    try:
        manifest, faults = read_manifest(files.manifest), list[Fault]()
    except UserError as error:
        return Rechecked((_of_file(files.manifest, "content", f"is broken ({error})"),), (), None)
    try:
        text = files.journal.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        return Rechecked(
            (_of_file(files.journal, "content", f"cannot be read ({error})"),), (), None
        )
    expected, problems = _expected(manifest)
    faults += [_of_file(files.manifest, *problem) for problem in problems]
    records = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line:
            continue
        try:
            fields = parse_line(line)
        except ValueError as error:
            faults.append(
                Fault(files.journal.name, number, None, "record", f"cannot be read: {error}")
            )
            continue
        found = line_faults(fields, expected) or _as_others_read(line, manifest)
        image = fields.get("index")
        image = image if is_count(image) else quoted(image)
        faults += [Fault(files.journal.name, number, image, *one) for one in found]
        records.append(Record(number, fields))
    if not records:
        faults.append(_of_file(files.journal, "content", "holds no image"))
    elif not text.endswith("\n"):
        faults.append(_of_file(files.journal, "end", "is missing: the last line is cut off"))
    if manifest is None and any("format" in fields for _, fields in records):
        faults.append(_of_file(files.manifest, "file", "is missing: nobody knows the run's images"))
    faults += _one_setting(files, records)
    faults += _coverage(files, records, manifest)
    tables = [path for path in files.tables if path.is_file()]
    if not tables:
        faults.append(
            _of_file(files.journal, "table", "is missing: no .txt or .tsv lies beside it")
        )
    for table in tables:
        faults += _table_faults(table, records)
    return Rechecked(tuple(faults), tuple(records), manifest)


def _of_file(path: Path, field: str, text: str) -> Fault:
    return Fault(path.name, 0, None, field, text)


def _expected(manifest: Manifest | None) -> tuple[Expected, list[Finding]]:
    """What each line must say, and what is wrong with the manifest itself."""
    if manifest is None:
        return Expected(None, {}, None, True), []
    identity, plan, problems = manifest.identity, None, []
    word = str(identity.get("plan")).partition("(")[0]
    if names_code(word):
        raise UserError(f"{manifest.path}: plan {word} is of another package: not computed again")
    if identity.get("command") == "attack":
        raise UserError(f"{manifest.path}: verify is of what certify and predict write, no attacks")
    try:
        RunIdentity.from_stored(identity)
    except UserError as error:
        problems.append(Finding("identity", f"is none: {error}"))
    try:
        plan = ExactPlan.of_text(identity.get("plan"))
        command = identity.get("command")
        if (command == "predict") != (plan.word == "majority"):
            problems.append(Finding("plan", f"{plan.word} is not of {quoted(command)}"))
    except ValueError as error:
        problems.append(Finding("plan", f"is none: {error}"))
    told = {name: identity[name] for name in BOUND if identity.get(name) is not None}
    told["identity"] = manifest.digest
    name, own = str(identity.get("dataset")), identity.get("class_names")
    info = getattr(DATASETS[name], "info", None) if name in DATASETS else None
    classes = info.num_classes if isinstance(info, DatasetInfo) else None
    if classes is None and isinstance(own, list) and own:
        classes = len(own)
    return Expected(plan, told, classes, "numerics" not in identity), problems


def _as_others_read(line: str, manifest: Manifest | None) -> list[Finding]:
    """What the reader of journals says of a line that is right by itself: nothing, to the bit."""
    try:
        record, stored = from_line(line), parse_line(line)
        found = [] if manifest is None else _stop_fault(record, manifest)
    except ValueError as error:
        return [Finding("record", f"is refused by diffsmooth's own reader: {error}")]
    if manifest is not None and manifest.context.get("computed_by") == computed_by():
        for name in TO_THE_BIT:
            here = getattr(record.certificate, name)
            if stored[name] != here:
                text = f"is {stored[name]!r}, not {here!r}, as {computed_by()} gives it here, too"
                found.append(Finding(name, text))
    return found


def _stop_fault(record: ImageRecord, manifest: Manifest) -> list[Finding]:
    """Whether the plan would have stopped elsewhere on the same votes."""
    plan, certificate = plan_of_text(manifest.identity["plan"]), record.certificate
    if record.error or len(plan.looks) < 2:
        return []
    selection = dict(certificate.selection_counts)
    counts = np.zeros(max(selection) + 3, dtype=np.int64)  # a class more, for what is no success
    void = selection.pop(NO_CLASS, 0)
    counts[list(selection)] = list(selection.values())
    run = plan.start(certificate.sigma, len(counts), record.label)
    run.update(counts, void)
    n = s = 0
    for look in certificate.looks:
        if not run.wanted:
            return [Finding("looks", f"go on, but the plan stops at {n} of these votes")]
        fresh = look.successes - s
        counts[:] = 0
        counts[[certificate.selected, -1]] = fresh, look.n - n - fresh
        n, s = look
        run.update(counts)
    if run.wanted:
        return [Finding("looks", f"end at {n} votes, but the plan goes on from these")]
    return []


def _one_setting(files: RunFiles, records: Sequence[Record]) -> Iterator[Fault]:
    """Lines that say another plan, N, alpha or sigma than the first: a run has one of each."""
    first: dict[str, Any] = {}
    for number, fields in records:
        for name in ONE:
            value = fields.get(name)
            if first.setdefault(name, value) != value:
                text = f"is {quoted(value)}, in lines before it is {quoted(first[name])}"
                yield Fault(files.journal.name, number, fields.get("index"), name, text)


def _coverage(
    files: RunFiles, records: Sequence[Record], manifest: Manifest | None
) -> Iterator[Fault]:
    """Images that are missing, stand twice, or are not of the run."""
    lines = dict[int, int]()
    selected = None
    if manifest is not None:
        try:
            listed = stored_selection(manifest.identity)
            selected = listed if listed is None or isinstance(listed, range) else set(listed)
        except UserError as error:
            yield _of_file(files.manifest, "selection", f"is none: {error}")
    for number, fields in records:
        image: Any = fields.get("index")
        if not is_count(image):
            continue
        if image in lines:
            text = f"stands on line {lines[image]}, too"
            yield Fault(files.journal.name, number, image, "index", text)
        elif selected is not None and image not in selected:
            yield Fault(files.journal.name, number, image, "index", "is not among the run's images")
        lines.setdefault(image, number)
    wanted = selected or ()  # a range may be of more images than memory holds
    ascending = wanted if isinstance(wanted, range) else sorted(wanted)
    absent = (image for image in ascending if image not in lines)
    missing = len(wanted) - sum(image in wanted for image in lines)
    for image in islice(absent, NAMED):
        yield Fault(files.journal.name, 0, image, "index", "is missing")
    if missing > NAMED:
        text = f"{missing - NAMED:,} more images are missing"
        yield _of_file(files.journal, "index", text)


def _table_faults(table: Path, records: Sequence[Record]) -> Iterator[Fault]:
    """Where a table is not what a journal's lines give, byte for byte but for the time."""
    try:
        lines = table.read_bytes().decode().split("\n")
    except (OSError, UnicodeDecodeError) as error:
        yield _of_file(table, "content", f"cannot be read ({error})")
        return
    predicts = any(fields.get("plan") == "majority" for _, fields in records)
    columns = PREDICT_COLUMNS if predicts else CERTIFY_COLUMNS
    if lines[0] != "\t".join(columns):
        yield Fault(table.name, 1, None, "header", f"is not {' '.join(columns)}")
    if lines[-1]:
        yield Fault(table.name, len(lines), None, "end", "is missing: the last line is cut off")
    wanted = {row["idx"]: row for row in map(_row, records) if row}
    seen = dict[str, int]()
    for number, line in enumerate(lines[1 : None if lines[-1] else -1], start=2):
        cells = line.split("\t")
        index = cells[0]
        row, image = wanted.get(index), index if index.isdecimal() else quoted(index)
        if row is None:
            yield Fault(table.name, number, image, "idx", "is of no image of the journal")
        elif index in seen:
            yield Fault(table.name, number, image, "idx", f"stands on line {seen[index]}, too")
        elif len(cells) != len(columns):
            text = f"has {len(cells)} columns, not {len(columns)}"
            yield Fault(table.name, number, image, "row", text)
        else:
            for name, cell in zip(columns, cells, strict=True):
                if name == "time" and not SECONDS.fullmatch(cell):
                    yield Fault(table.name, number, image, name, f"is {quoted(cell)}, not seconds")
                elif name != "time" and cell != row[name]:
                    text = f"is {quoted(cell)}, the journal's votes give {row[name]}"
                    yield Fault(table.name, number, image, name, text)
        seen.setdefault(index, number)
    for index in wanted:
        if index not in seen:
            yield Fault(table.name, 0, index, "row", "is missing")
    if list(seen) != list(wanted) and seen.keys() == wanted.keys():
        yield _of_file(table, "rows", "are in another order than the journal's")


def _row(record: Record) -> dict[str, str]:
    """The cells of a line but for the time, by column; none where it does not tell them."""
    fields = record.fields
    try:
        label, prediction, radius = fields["label"], fields["prediction"], fields["radius"]
        floor = Decimal(repr(float(radius))).quantize(Decimal("0.000001"), ROUND_FLOOR)
        return {
            "idx": str(fields["index"]),
            "label": "nan" if label is None else str(label),
            "predict": str(prediction),
            "radius": f"{floor:f}",
            "correct": "nan" if label is None else str(int(prediction == label)),
        }
    except (LookupError, TypeError, ValueError, ArithmeticError):
        return {}
