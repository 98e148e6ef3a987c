"""What a report holds: its tables, and what goes into the files that were asked for."""

from pathlib import Path
from typing import Any

import numpy as np

from diffsmooth.report.figures import accuracy_figure, figure_bytes
from diffsmooth.report.page import html_page
from diffsmooth.report.same_data import check_same_images
from diffsmooth.report.tables import (
    RHO,
    accuracy_table,
    bound_table,
    envelope_table,
    interval_table,
    long_table,
    paired_tables,
)
from diffsmooth.report.writers import Section, as_csv, as_latex, as_markdown, as_text
from diffsmooth.runs.reading import Run

WRITERS = {".txt": as_text, ".md": as_markdown, ".tex": as_latex}
NUMBERS = ".csv"


def contents_of(
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


def sections_of(runs: list[Run], radii: np.ndarray, namespace: Any) -> list[Section]:
    """The tables that were asked for; the first two are always there."""
    decimals, first = namespace.decimals, runs[0]
    sections = [
        accuracy_section(runs, radii, namespace),
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


def accuracy_section(runs: list[Run], radii: np.ndarray, namespace: Any) -> Section:
    columns = namespace.columns
    meanings = (f"; {column.heading}: {column.meaning}" for column in columns if column.meaning)
    title = f"Certified accuracy by radius (l2, in [0, 1] pixel units){''.join(meanings)}"
    return Section(title, *accuracy_table(runs, radii, namespace.decimals, columns))
