"""`diffsmooth export`: the weights of a training checkpoint, without the optimiser's state."""

import sys

from diffsmooth.cli.errors import user_errors
from diffsmooth.cli.options import read_options
from diffsmooth.pipeline.command_specification import ExportOptions
from diffsmooth.shown_text import shown
from diffsmooth.stats.printed import counted
from diffsmooth.terminal import for_terminal

EXAMPLES = ("LAST.ckpt OUT.pt", "LAST.ckpt OUT.pth.tar --plain")


def main(args: list[str] | None = None, prog: str = "diffsmooth export") -> None:
    """Runs the command on `args`, by default the process's."""
    options = read_options(ExportOptions, args, prog, __doc__, examples=EXAMPLES)
    from diffsmooth.pipeline.export import export  # only now: torch takes seconds

    with user_errors(prog):
        checkpoint, said, lost = export(options)
    if lost:
        print(f"{prog}: note: {lost}", file=sys.stderr)
    if checkpoint.note:
        print(for_terminal(checkpoint.note))
    numbers = sum(value.numel() for value in checkpoint.state_dict.values())
    print(f"{shown(options.outfile)}: {checkpoint.metadata.kind}, {counted(numbers, 'number')}")
    for line in said:
        print(for_terminal(shown(line)))
