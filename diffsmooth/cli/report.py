"""`diffsmooth report`: tables, figures, TensorBoard and a page from the results of runs."""

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diffsmooth.cli.errors import OneLineParser, user_errors
from diffsmooth.pipeline.output_checks import check_ending, check_file, check_folder
from diffsmooth.report.at_alpha import at_alpha
from diffsmooth.report.columns import COLUMNS, columns_of
from diffsmooth.report.figures import ENDINGS
from diffsmooth.report.radii import distinct, usual_radii
from diffsmooth.report.same_data import check_same_data
from diffsmooth.report.tensorboard import folder_name, write_run
from diffsmooth.runs.names import RunFiles
from diffsmooth.runs.reading import read_run
from diffsmooth.shown_text import shown
from diffsmooth.stats.errors import UserError
from diffsmooth.whole_file import make_folder, write_whole

TABLES = (".txt", ".md", ".tex", ".csv")
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
        # What follows imports pandas, which takes seconds.
        from diffsmooth.report.contents import accuracy_section, contents_of, sections_of
        from diffsmooth.report.tables import comparison_remarks
        from diffsmooth.report.writers import as_text

        sections, remarks = sections_of(runs, radii, namespace), comparison_remarks(runs)
        # All is made before anything is written.
        contents = contents_of(runs, radii, sections, remarks, namespace)
        for path in contents:
            make_folder(path)
        for path, content in contents.items():
            write_whole(path, content)
        if namespace.tensorboard:
            for run in runs:
                first = accuracy_section([run], radii, namespace)
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
        (namespace.table, TABLES), (namespace.figure, ENDINGS), (pages, PAGES)
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
