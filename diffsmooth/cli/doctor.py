"""`diffsmooth doctor`: what a checkpoint is, whether it works, and what a run with it costs.

With --self_test: whether this machine's device computes what a CPU computed for us.
"""

from diffsmooth.cli.errors import show_error, user_errors
from diffsmooth.cli.options import read_options
from diffsmooth.lit.stopping import USER_ERROR
from diffsmooth.pipeline.command_specification import ExamineOptions
from diffsmooth.shown_text import shown
from diffsmooth.stats.errors import UserError, option_values
from diffsmooth.terminal import for_terminal

EXAMPLES = ("CHECKPOINT --dataset cifar10", "--self_test --precision bf16")


def main(args: list[str] | None = None, prog: str = "diffsmooth doctor") -> None:
    """Runs the command on `args`, by default the process's."""
    options = read_options(ExamineOptions, args, prog, __doc__, examples=EXAMPLES)
    # What follows imports torch, which takes seconds.
    from diffsmooth.models.smoothing.precision import resolve_precision
    from diffsmooth.pipeline.device import pick_device
    from diffsmooth.pipeline.examine import examine
    from diffsmooth.pipeline.self_test import Setup, print_self_test

    with user_errors(prog):
        device = pick_device(options.accelerator)
        with option_values():
            precision = resolve_precision(options.precision, device.type)
        setup = Setup(device, precision, options.compile)
        if options.self_test and not print_self_test(setup):
            raise SystemExit(1)
    well = True
    for path in options.checkpoints:
        try:
            for line in examine(path, options, device, precision):
                print(for_terminal(shown(line)), flush=True)
        except (UserError, OSError) as error:  # one bad file does not keep us from the others
            well = False
            message = str(error)
            show_error(prog, message if message.startswith(path) else f"{path}: {message}")
    if not well:
        raise SystemExit(USER_ERROR)
