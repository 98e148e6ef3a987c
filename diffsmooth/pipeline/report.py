"""Tables, figures, TensorBoard and a page from the results of runs."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from diffsmooth.pipeline.command_specification import ReportOptions
from diffsmooth.pipeline.output_checks import check_ending, check_file, check_folder
from diffsmooth.report.at_alpha import at_alpha
from diffsmooth.report.attacks import attack_sections, flip_remarks, run_of
from diffsmooth.report.cautions import caution_lines
from diffsmooth.report.columns import COLUMNS, Column, columns_of
from diffsmooth.report.figures import ENDINGS, accuracy_figure, figure_bytes
from diffsmooth.report.image_table import image_table
from diffsmooth.report.page import html_page
from diffsmooth.report.radii import distinct, usual_radii
from diffsmooth.report.same_data import check_same_data, check_same_images
from diffsmooth.report.tables import (
    RHO,
    accuracy_table,
    bound_table,
    envelope_table,
    interval_table,
    long_table,
    paired_tables,
)
from diffsmooth.report.tensorboard import folder_name, write_attacks, write_run
from diffsmooth.report.text import remarks_of
from diffsmooth.report.true_class import true_class_table
from diffsmooth.report.writers import Section, as_csv, as_latex, as_markdown, as_text
from diffsmooth.runs.attacked import AttackRun, read_attacks
from diffsmooth.runs.names import RunFiles
from diffsmooth.runs.reading import Run, read_run
from diffsmooth.shown_text import shown
from diffsmooth.stats.errors import UserError
from diffsmooth.whole_file import make_folder, write_whole

WRITERS = {".txt": as_text, ".md": as_markdown, ".tex": as_latex}
NUMBERS = ".csv"
PAGES = (".html", ".htm")


def report(options: ReportOptions) -> tuple[str, list[Path]]:
    """Reads the runs, and writes what is asked for: the tables' text, and what was written.

    Raises:
        UserError: a user's mistake.
    """
    names = options.names or _names_of(options.runs)
    columns = columns_of(options.columns or [*COLUMNS])
    _check(options, names)
    runs = [read_run(path, name) for path, name in zip(options.runs, names, strict=True)]
    check_same_data(runs)
    if options.alpha is not None:
        runs = [at_alpha(run, options.alpha) for run in runs]
    attacks = [
        replace(read_attacks(path), name=name)
        for path, name in zip(options.attacks, _names_of(options.attacks), strict=True)
    ]
    for one in attacks:
        if not len(one.found):
            raise UserError(f"{one.path}: every try failed, so that there is nothing to report")
    _check_names([one.name for one in attacks], None)
    attacked = [(one, run_of(one, runs)) for one in attacks]
    radii = usual_radii(runs) if options.radii is None else distinct(options.radii)
    sections, remarks = _sections(runs, radii, columns, options), remarks_of(runs)
    for one, run in attacked:
        sections += attack_sections(one, run, radii, options.decimals)
        remarks += [f"{one.name}: {line}" for line in flip_remarks(one.found, one.records)]
    remarks += caution_lines(runs, radii, attacked, options.paired)
    # All is made before anything is written.
    contents = _contents(runs, attacks, radii, columns, sections, remarks, options)
    for path in contents:
        make_folder(path)
    for path, content in contents.items():
        write_whole(path, content)
    written = list(contents)
    if options.tensorboard:
        events = Path(options.tensorboard)
        for run in runs:
            first = accuracy_table([run], radii, columns, options.decimals)
            own = as_text([first], [*remarks_of([run]), *caution_lines([run], radii)])
            write_run(events / folder_name(run.name), run, own)
        for one, run in attacked:
            own = as_text(
                attack_sections(one, run, radii, options.decimals),
                flip_remarks(one.found, one.records),
            )
            write_attacks(events / "attacks" / folder_name(one.name), one, own)
        written.append(events)
    return as_text(sections, remarks), written


def _check(options: ReportOptions, names: Sequence[str]) -> None:
    """Raises UserError for what can be known to be wrong before a file is read."""
    runs = options.runs
    for files in (runs, options.attacks):
        stems = [RunFiles(Path(file).resolve()).stem for file in files]
        for file, stem in zip(files, stems, strict=True):
            if stems.count(stem) > 1:
                raise UserError(f"{file} is named twice")
    pages, images = ([path] if path else [] for path in (options.html, options.images))
    read = (*runs, *options.attacks)
    inputs = {path.resolve() for run in read for path in RunFiles.beside(Path(run)).whole}
    for paths, endings in (
        (options.table, (*WRITERS, NUMBERS)), (images, (NUMBERS,)), (options.figure, ENDINGS),
        (pages, PAGES),
    ):  # fmt: skip
        for path in map(Path, paths):
            check_ending(path, endings)
            check_file(path)
            if path.resolve() in inputs:
                raise UserError(f"{path}: is of a run, and would be overwritten")
    named = [Path(p).resolve() for p in (*options.table, *images, *options.figure, *pages)]
    written = set(named)
    for path in named:
        if named.count(path) > 1:
            raise UserError(f"{path}: is to be written twice")
    folders = {folder for path in written for folder in path.parents}
    if options.tensorboard is not None:
        events = Path(options.tensorboard).resolve()
        folders |= {events, *events.parents}
    if written & folders:
        raise UserError(f"{min(written & folders)}: is to be both a file and a folder")
    _check_names(names, options.tensorboard)
    if options.attacks and options.alpha is not None:
        raise UserError(
            "--alpha computes certificates anew, and --attacks were on those of the run: report "
            "them apart"
        )


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
    for depth in range(1, 1 + max(map(len, parts), default=0)):
        names = [shown("/".join(some[-depth:])) for some in parts]
        if len({folder_name(name) for name in names}) == len(names):
            break
    return names


def _contents(
    runs: list[Run],
    attacks: list[AttackRun],
    radii: np.ndarray,
    columns: Sequence[Column],
    sections: list[Section],
    remarks: list[str],
    options: ReportOptions,
) -> dict[Path, bytes]:
    """What goes into the files that were asked for."""
    contents: dict[Path, bytes] = {}
    for path in map(Path, options.table):
        ending = path.suffix.lower()
        if ending == NUMBERS:
            table = as_csv(long_table(runs, radii, options.table_alpha))
        else:
            table = WRITERS[ending](sections, remarks)
        contents[path] = table.encode()
    if options.images:
        contents[Path(options.images)] = as_csv(image_table(runs)).encode()
    if options.figure:
        results = {run.name: run.results for run in runs}
        found = {one.name: one.found for one in attacks if one.found.is_labelled}
        figure = accuracy_figure(results, options.envelope, found, radii)
        for path in map(Path, options.figure):
            contents[path] = figure_bytes(figure, path.suffix)
    if options.html:
        page = html_page(
            runs, radii, sections[2:], columns, attacks, options.decimals, options.paired
        )
        contents[Path(options.html)] = page.encode()
    return contents


def _sections(
    runs: list[Run], radii: np.ndarray, columns: Sequence[Column], options: ReportOptions
) -> list[Section]:
    """The tables that were asked for; the first two are always there."""
    decimals, first = options.decimals, runs[0]
    sections = [
        accuracy_table(runs, radii, columns, decimals),
        Section(
            "95 % intervals across images (accuracy: Clopper-Pearson, ACR: bootstrap)",
            interval_table(runs, radii, decimals),
        ),
    ]
    if any(run.results.alpha or options.table_alpha for run in runs):
        sections.append(
            Section(
                f"Certified accuracy at least, but for a chance of {RHO:g} a cell over the votes "
                "(Cohen et al. 2019, appendix D)",
                bound_table(runs, radii, decimals, options.table_alpha),
            )
        )
    sections += true_class_table(runs, decimals)
    if options.envelope:
        title = "Upper envelope: the best of the runs at each radius"
        sections.append(Section(title, envelope_table(runs, radii, decimals)))
    if options.paired:
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
