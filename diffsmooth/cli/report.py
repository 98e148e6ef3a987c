"""`diffsmooth report`: tables, figures, TensorBoard and a page from the results of runs."""

from diffsmooth.cli.errors import make_room, user_errors
from diffsmooth.cli.options import read_options
from diffsmooth.pipeline.command_specification import ReportOptions
from diffsmooth.shown_text import shown
from diffsmooth.terminal import for_terminal

EXAMPLES = (
    "OUT.jsonl OTHER.txt --paired --html REPORT.html",
    "OUT.jsonl --radii 0 0.5 1 --table T.tex T.csv --figure F.pdf",
)


def main(args: list[str] | None = None, prog: str = "diffsmooth report") -> None:
    """Runs the command on `args`, by default the process's."""
    options = read_options(ReportOptions, args, prog, __doc__, examples=EXAMPLES)
    from diffsmooth.pipeline.report import report  # only now: Matplotlib takes a second

    with user_errors(prog):
        make_room()
        text, written = report(options)
    # Last: who reads a few lines only, and closes the pipe, has the files all the same.
    print(for_terminal(text), end="")
    if written:
        print(f"\nwritten: {', '.join(map(shown, written))}")
