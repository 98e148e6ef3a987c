"""`diffsmooth forecast`: votes, hours and load of a run to come, from a small one."""

import sys

from diffsmooth.cli.errors import user_errors
from diffsmooth.cli.options import read_options
from diffsmooth.pipeline.command_specification import ForecastOptions
from diffsmooth.terminal import for_terminal

EXAMPLES = ("PILOT.jsonl --rate 120 --images 500 --devices 1 8",)


def main(args: list[str] | None = None, prog: str = "diffsmooth forecast") -> None:
    """Runs the command on `args`, by default the process's."""
    options = read_options(ForecastOptions, args, prog, __doc__, examples=EXAMPLES)
    with user_errors(prog):
        plan = options.build_plan(options.n, options.alpha)
        from diffsmooth.pipeline.forecast import forecast  # only now: SciPy takes a second

        text, warning = forecast(options, plan)
    print(for_terminal(text))
    if warning:
        print(f"{prog}: warning: {warning}", file=sys.stderr)
