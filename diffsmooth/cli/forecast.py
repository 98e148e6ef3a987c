"""`diffsmooth forecast`: votes, hours and load of a run to come, from a small one."""

import sys

from diffsmooth.cli.errors import OneLineParser, user_errors
from diffsmooth.cli.options import add_options
from diffsmooth.cli.plan_options import PlanOptions
from diffsmooth.pipeline.forecast_specification import ForecastOptions


def main(args: list[str] | None = None, prog: str = "diffsmooth forecast") -> None:
    """Runs the command on `args`, by default the process's."""
    parser = OneLineParser(prog=prog, description=__doc__)
    add_options(parser, ForecastOptions)
    add_options(parser, PlanOptions)
    parser.set_defaults(plan="group_sequential")
    namespace = parser.parse_args(args)
    with user_errors(prog):
        options = ForecastOptions.from_namespace(namespace)
        plan = PlanOptions.from_namespace(namespace).build(options.n, options.alpha)
        from diffsmooth.pipeline.forecast import forecast  # only now: SciPy takes a second

        text, warning = forecast(options, plan, namespace.n0 + options.n)
    print(text)
    if warning:
        print(f"{prog}: warning: {warning}", file=sys.stderr)
