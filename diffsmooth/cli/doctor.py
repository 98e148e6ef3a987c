"""`diffsmooth doctor`: what a checkpoint is, whether it works, and what a run with it costs.

With --self_test: whether this machine's device computes what a CPU computed for us.
"""

from dataclasses import fields

import torch
from jsonargparse import ActionYesNo

from diffsmooth.cli.errors import USER_ERROR, OneLineParser, show_error, user_errors
from diffsmooth.cli.network_options import add_image_options, add_weights_option
from diffsmooth.models.checkpoints.formats import read_checkpoint
from diffsmooth.models.smoothing.precision import resolve_precision
from diffsmooth.pipeline.device import pick_device
from diffsmooth.pipeline.examine import ExamineOptions, examine
from diffsmooth.pipeline.option_checks import check_most
from diffsmooth.pipeline.self_test import Setting, run_self_test
from diffsmooth.shown_text import shown
from diffsmooth.stats.errors import UserError, option_values


def main(args: list[str] | None = None, prog: str = "diffsmooth doctor") -> None:
    """Runs the command on `args`, by default the process's."""
    parser = OneLineParser(prog=prog, description=__doc__)
    add = parser.add_argument
    add("checkpoints", type=str, nargs="*", help="files to look at")
    add("--self_test", action=ActionYesNo, default=False,
        help="compare golden vectors and two images' votes with stored results")  # fmt: skip
    add("--accelerator", type=str, default="auto", help="auto, cpu or gpu")
    add("--precision", type=str, default="auto",
        help="float32, bf16 (layers only), or auto: bf16 where the hardware has it")  # fmt: skip
    add("--compile", action=ActionYesNo, default=False, help="of the self-test: compile networks")
    add("--dataset", type=str | None, default=None,
        help="labelled images to try it on; by default what it was trained on")  # fmt: skip
    add_image_options(parser)
    add("--arch", type=str | None, default=None, help="of a classifier that does not say")
    add("--normalize", type=str, default="auto", help="input layer, where you know it")
    add("--diffusion", type=str | None, default=None, help="diffusion model, for the costs")
    add("--sigma", type=float, default=0.5, help="of the planned run, for the costs")
    add("--m", type=int, default=5, help="local copies a vote of the planned run")
    add("--n", "--N", dest="n", type=int, default=100_000, help="votes an image of it")
    add("--images", type=int, default=500, help="images of it")
    add_weights_option(parser)
    add("--unsafe_load", action=ActionYesNo, default=False, help="run code that a file may hold")
    namespace = parser.parse_args(args)
    with user_errors(prog):
        device = pick_device(namespace.accelerator)
        with option_values():
            precision = resolve_precision(namespace.precision, device.type)
        with option_values():
            options = ExamineOptions(
                **{f.name: getattr(namespace, f.name) for f in fields(ExamineOptions)}
            )
        for name in ("m", "n"):
            check_most(name, getattr(options, name))
        if not namespace.checkpoints and not namespace.self_test:
            raise UserError("give it checkpoints to look at, or --self_test")
        if namespace.compile and not namespace.self_test:
            raise UserError("--compile is of --self_test")
        setting = Setting(device, precision, namespace.compile)
        if namespace.self_test and not self_test(setting):
            raise SystemExit(1)
    well = True
    for path in namespace.checkpoints:
        try:
            checkpoint = read_checkpoint(path, options.unsafe_load, namespace.weights)
            for line in examine(checkpoint, options, device, precision):
                print(shown(line), flush=True)
        except (UserError, OSError) as error:  # one bad file does not keep us from the others
            well = False
            message = str(error)
            show_error(prog, message if message.startswith(path) else f"{path}: {message}")
    if not well:
        raise SystemExit(USER_ERROR)


def self_test(setting: Setting) -> bool:
    """Prints each check's outcome; whether all agree."""
    name = setting.device.type
    if name == "cuda":
        name = torch.cuda.get_device_name(setting.device)
    how = f"{setting.precision}{', compiled' if setting.compiled else ''}"
    print(f"self-test on {name}, {how}, torch {torch.__version__}; differences are relative to the "
          "largest stored value, or shares of the votes")  # fmt: skip
    differing = 0
    try:
        for agreement in run_self_test(setting):
            print(agreement, flush=True)
            differing += not agreement.agrees
    except UserError:
        raise
    except Exception as error:  # of torch, its compiler or the driver: that, too, is an outcome
        reason = str(error).strip().splitlines()[0] if str(error).strip() else ""
        print(f"FAILED   {type(error).__name__}: {reason}")
        return False
    print(
        f"{differing} results DIFFER from the stored ones: do not trust this setting's certificates"
        if differing
        else "all agree with the stored results of a CPU in float32"
    )
    return not differing
