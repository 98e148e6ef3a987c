"""`diffsmooth tune`: sigma_local and m for a classifier, chosen on training images left to it."""

import shlex
import sys

from diffsmooth.cli.errors import user_errors
from diffsmooth.cli.named_code import options_that_allow
from diffsmooth.cli.options import read_options
from diffsmooth.pipeline.tune_specification import TuneOptions
from diffsmooth.shown_text import shell_line, shown

DESCRIPTION = """Chooses the local smoothing (sigma_local and m) by an estimate, from few votes an
image, of the certified accuracy of a run to come, on training images that the classifier's training
left out or held out, as far as its checkpoint says so. Test images are never used. All settings are
judged on the same noisy images, each purified once."""
EXAMPLES = ("cifar10 CHECKPOINT 0.50 TUNED.yaml --m 3 5 --images 500",)


def main(args: list[str] | None = None, prog: str = "diffsmooth tune") -> None:
    """Runs the command on `args`, by default the process's."""
    args = sys.argv[1:] if args is None else args
    # The sweep's settings are to be alike: kernels are not chosen by timing.
    options = read_options(TuneOptions, args, prog, DESCRIPTION, examples=EXAMPLES, kernels="fixed")
    # What follows imports torch, which takes seconds.
    from diffsmooth.pipeline.tune import choose, write
    from diffsmooth.report.sweep_table import sweep_text

    with user_errors(prog):
        chosen = choose(options)
        write(options, chosen, shlex.join([*prog.split(), *args]))
    print(sweep_text(chosen.outcome))
    _, table, figure = map(shown, options.files)
    code = (options.classifier, options.arch, options.purifier, options.diffusion, options.dataset)
    typed = [*options_that_allow(code), *["--unsafe_load"] * options.unsafe_load]
    words = ("--config", options.outfile, "--outfile", "OUT.txt", *typed)
    print(
        f"sweep {table}, figure {figure}\n"
        f"to certify the test images: {shell_line('python', 'certify.py', *words)}"
    )
