"""`diffsmooth report`: tables, figures, TensorBoard and a page from the results of runs."""

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from diffsmooth.cli.errors import OneLineParser, user_errors
from diffsmooth.pipeline.output_checks import check_ending, check_file, check_folder
from diffsmooth.report.at_alpha import at_alpha
from diffsmooth.report.columns import COLUMNS, columns_of
from diffsmooth.report.figures import ENDINGS, accuracy_figure, figure_bytes
from diffsmooth.report.page import html_page
from diffsmooth.report.radii import distinct, usual_radii
from diffsmooth.report.same_data import check_same_data, check_same_images
from diffsmooth.report.tables import (
    RHO,
    accuracy_table,
    bound_table,
    comparison_remarks,
    envelope_table,
    interval_table,
    long_table,
    paired_tables,
)
from diffsmooth.report.tensorboard import folder_name, write_run
from diffsmooth.report.writers import Section, as_csv, as_latex, as_markdown, as_text
from diffsmooth.runs.names import RunFiles
from diffsmooth.runs.reading import Run, read_run
from diffsmooth.shown_text import shown
from diffsmooth.stats.errors import UserError
from diffsmooth.whole_file import make_folder, write_whole

WRITERS = {".txt": as_text, ".md": as_markdown, ".tex": as_latex}
NUMBERS = ".csv"
PAGES = (".html", ".htm")


def main(args: list[str] | None = None, prog: str = "diffsmooth report") -> None:
    """Runs the command on `args`, by default the process's."""
    parser = OneLineParser(prog=prog, description=__doc__)
    add = parser.add_argument
    add("runs", type=str, nargs="+",
        help="journals (.jsonl), or tables with the columns idx, label, predict, radius, correct "
        "and time; a table of predictions has no radius")  # fmt: skip
    add("--names", type=str, nargs="+", default=None,
        help="of the runs, in their order; by default their files'")  # fmt: skip
    add("--radii", type=float, nargs="+", default=None,
        help="of the tables, l2, in [0, 1] pixel units; by default multiples of 0.25 up to 1.5 "
        "(ImageNet: of 0.5 up to 3), and the runs' own grids")  # fmt: skip
    add("--columns", type=str, nargs="+", default=[*COLUMNS],
        help="of the table of certified accuracy, after the radii's; also PACKAGE.MODULE:FUNCTION, "
        "from a run to a number or a text")  # fmt: skip
    add("--decimals", type=int, default=3, help="of the tables' numbers")
    add("--paired", action="store_true",
        help="compare the first run with each other one, image by image: p-values for each "
        "radius alone (McNemar), and for all of them together (Holm)")  # fmt: skip
    add("--envelope", action="store_true",
        help="the best of the runs at each radius, and which run it is")  # fmt: skip
    add("--alpha", type=float | None, default=None,
        help="analyse the votes at this failure probability; needs the journals")  # fmt: skip
    add("--table_alpha", type=float | None, default=None,
        help="alpha of the tables without a journal, for the high-probability bound")  # fmt: skip
    add("--table", type=str, nargs="+", default=[],
        help="write the tables: .txt, .md, .tex (booktabs) or .csv (numbers, one line a run and "
        "radius)")  # fmt: skip
    add("--figure", type=str, nargs="+", default=[],
        help="write certified accuracy against radius: .png, .pdf or .svg")  # fmt: skip
    add("--html", type=str | None, default=None, help="write one page with everything, to browse")
    add("--tensorboard", type=str | None, default=None,
        help="folder of TensorBoard events, one folder a run")  # fmt: skip
    namespace = parser.parse_args(args)
    with user_errors(prog):
        _check(namespace)
        namespace.columns = columns_of(namespace.columns)
        names = namespace.names or _names_of(namespace.runs)
        runs = [read_run(path, name) for path, name in zip(namespace.runs, names, strict=True)]
        check_same_data(runs)
        if namespace.alpha is not None:
            runs = [at_alpha(run, namespace.alpha) for run in runs]
        radii = usual_radii(runs)
        if namespace.radii is not None:
            radii = distinct(namespace.radii)
        sections, remarks = _sections(runs, radii, namespace), comparison_remarks(runs)
        # All is made before anything is written.
        contents = _contents(runs, radii, sections, remarks, namespace)
        for path in contents:
            make_folder(path)
        for path, content in contents.items():
            write_whole(path, content)
        if namespace.tensorboard:
            for run in runs:
                first = _accuracy_section([run], radii, namespace)
                own = as_text([first], comparison_remarks([run]))
                write_run(Path(namespace.tensorboard, folder_name(run.name)), run, own)
    # Last: who reads a few lines only, and closes the pipe, has the files all the same.
    print(as_text(sections, remarks), end="")
    written = [*map(shown, contents), *map(shown, filter(None, [namespace.tensorboard]))]
    if written:
        print(f"\nwritten: {', '.join(written)}")


def _check(namespace: Any) -> None:
    """Raises UserError for what can be known to be wrong before a file is read."""
    runs, names = namespace.runs, namespace.names
    stems = [RunFiles(Path(run).resolve()).stem for run in runs]
    twice = next((run for run, stem in zip(runs, stems, strict=True) if stems.count(stem) > 1), "")
    if twice:
        raise UserError(f"{twice} is named twice")
    if names is not None:
        if len(names) != len(runs):
            raise UserError(f"names must be {len(runs)}, got {len(names)}")
        for name in names:
            if not name.isprintable() or not name.strip():
                raise UserError(f"names must be printable, got {name!r}")
    for radius in namespace.radii or ():
        if not 0 <= radius < math.inf:
            raise UserError(f"radii must be >= 0 and finite, got {radius}")
    if not 0 <= namespace.decimals <= 9:
        raise UserError(f"decimals must be in 0 .. 9, got {namespace.decimals}")
    for name in ("alpha", "table_alpha"):
        alpha = getattr(namespace, name)
        if alpha is not None and not 0 < alpha < 1:
            raise UserError(f"{name} must be in (0, 1), got {alpha}")
    if namespace.paired and len(runs) < 2:
        raise UserError("paired needs two runs or more")
    pages = [namespace.html] if namespace.html else []
    inputs = {path.resolve() for run in runs for path in RunFiles.beside(Path(run)).whole}
    for paths, endings in (
        (namespace.table, (*WRITERS, NUMBERS)), (namespace.figure, ENDINGS), (pages, PAGES)
    ):  # fmt: skip
        for path in map(Path, paths):
            check_ending(path, endings)
            check_file(path)
            if path.resolve() in inputs:
                raise UserError(f"{path}: is of a run, and would be overwritten")
    written = {Path(path).resolve() for path in (*namespace.table, *namespace.figure, *pages)}
    folders = {folder for path in written for folder in path.parents}
    if namespace.tensorboard is not None:
        events = Path(namespace.tensorboard).resolve()
        folders |= {events, *events.parents}
    if written & folders:
        raise UserError(f"{min(written & folders)}: is to be both a file and a folder")
    _check_names(names or _names_of(runs), namespace.tensorboard)


def _check_names(names: Sequence[str], tensorboard: str | None) -> None:
    """Raises UserError for runs that are not told apart, or whose folder cannot be made."""
    folders = Counter(map(folder_name, names))
    for name in names:
        if folders[folder_name(name)] > 1:
            raise UserError(f"names must differ in letters and digits, got {name!r}: give --names")
        if tensorboard is not None:
            check_folder("tensorboard", Path(tensorboard, folder_name(name)))


def _names_of(paths: Sequence[str]) -> Sequence[str]:
    """The files' names, with as many of their folders as it takes to tell them apart."""
    parts = [(*path.parent.parts, RunFiles(path).name) for path in map(Path, paths)]
    names: list[str] = []
    for depth in range(1, 1 + max(map(len, parts))):
        names = [shown("/".join(some[-depth:])) for some in parts]
        if len({folder_name(name) for name in names}) == len(names):
            break
    return names


def _contents(
    runs: list[Run],
    radii: np.ndarray,
    sections: list[Section],
    remarks: list[str],
    namespace: Any,
) -> dict[Path, bytes]:
    """What goes into the files that were asked for."""
    contents: dict[Path, bytes] = {}
    for path in map(Path, namespace.table):
        ending = path.suffix.lower()
        if ending == NUMBERS:
            table = as_csv(long_table(runs, radii, namespace.table_alpha))
        else:
            table = WRITERS[ending](sections, remarks)
        contents[path] = table.encode()
    if namespace.figure:
        results = {run.name: run.results for run in runs}
        figure = accuracy_figure(results, namespace.envelope)
        for path in map(Path, namespace.figure):
            contents[path] = figure_bytes(figure, path.suffix)
    if namespace.html:
        contents[Path(namespace.html)] = html_page(
            runs, radii, sections[2:], namespace.columns
        ).encode()
    return contents


def _sections(runs: list[Run], radii: np.ndarray, namespace: Any) -> list[Section]:
    """The tables that were asked for; the first two are always there."""
    decimals, first = namespace.decimals, runs[0]
    sections = [
        _accuracy_section(runs, radii, namespace),
        Section(
            "95 % intervals across images (accuracy: Clopper-Pearson, ACR: bootstrap)",
            interval_table(runs, radii, decimals),
        ),
    ]
    if any(run.results.alpha or namespace.table_alpha for run in runs):
        sections.append(
            Section(
                f"Certified accuracy at least, but for a chance of {RHO:g} a cell over the votes "
                "(Cohen et al. 2019, appendix D)",
                bound_table(runs, radii, decimals, namespace.table_alpha),
            )
        )
    if namespace.envelope:
        title = "Upper envelope: the best of the runs at each radius"
        sections.append(Section(title, envelope_table(runs, radii, decimals)))
    if namespace.paired:
        for run in runs[1:]:
            check_same_images(first, run)
        tables = paired_tables(first, runs[1:], radii, decimals)
        sections += [
            Section(
                f"{first.name} against {run.name}, on the same {len(run.results)} images: "
                "difference of certified accuracy, and images that one run alone certifies; "
                "p for one radius alone (McNemar), and for all of these p together (Holm)",
                table,
            )
            for run, table in zip(runs[1:], tables, strict=True)
        ]
    return sections


def _accuracy_section(runs: list[Run], radii: np.ndarray, namespace: Any) -> Section:
    columns = namespace.columns
    meanings = (f"; {column.heading}: {column.meaning}" for column in columns if column.meaning)
    title = f"Certified accuracy by radius (l2, in [0, 1] pixel units){''.join(meanings)}"
    return Section(title, *accuracy_table(runs, radii, namespace.decimals, columns))
