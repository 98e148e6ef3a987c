"""`diffsmooth report`: certified accuracy of several runs side by side."""

from pathlib import Path

import pandas as pd

from diffsmooth.cli.errors import OneLineParser, user_errors
from diffsmooth.report.figures import accuracy_figure, save_figure
from diffsmooth.report.read import read_results, run_name
from diffsmooth.report.tables import common_radii, comparison_remarks, comparison_table


def main(args: list[str] | None = None, prog: str = "diffsmooth report") -> None:
    """Runs the command on `args`, by default the process's."""
    parser = OneLineParser(prog=prog, description=__doc__)
    parser.add_argument("runs", type=str, nargs="+", help="journals (.jsonl) or tables")
    parser.add_argument("--figure", type=str | None, default=None, help="PNG, PDF or SVG to write")
    namespace = parser.parse_args(args)
    with user_errors(prog):
        names = [run_name(Path(run)) for run in namespace.runs]
        if len(set(names)) < len(names):
            names = namespace.runs
        runs = {name: read_results(run) for name, run in zip(names, namespace.runs, strict=True)}
        table = comparison_table(runs, common_radii(runs).tolist())
    print("\n\n".join([as_markdown(table.reset_index(names="run")), *comparison_remarks(runs)]))
    if namespace.figure:
        with user_errors(prog, ValueError, OSError):
            save_figure(accuracy_figure(runs), Path(namespace.figure))


def as_markdown(table: pd.DataFrame) -> str:
    """A table of text cells in Markdown."""
    rows = [list(map(str, table.columns)), ["---"] * len(table.columns)]
    rows += [list(map(str, row)) for row in table.itertuples(index=False)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
