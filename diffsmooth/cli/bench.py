"""`diffsmooth bench`: votes a second of the published loop and of the engine on this machine."""

from diffsmooth.cli.errors import OneLineParser, user_errors
from diffsmooth.cli.options import add_options
from diffsmooth.pipeline.bench_specification import BenchOptions


def main(args: list[str] | None = None, prog: str = "diffsmooth bench") -> None:
    """Runs the command on `args`, by default the process's."""
    parser = OneLineParser(prog=prog, description=__doc__)
    add_options(parser, BenchOptions)
    namespace = parser.parse_args(args)
    with user_errors(prog):
        options = BenchOptions.from_namespace(namespace)
        from diffsmooth.pipeline.bench import measure  # only now: torch takes seconds

        measure(options)
