"""`diffsmooth export`: the weights of a training checkpoint, without the optimiser's state."""

import sys
from argparse import Namespace
from pathlib import Path
from typing import get_args

from diffsmooth.cli.errors import OneLineParser, user_errors
from diffsmooth.cli.network_options import add_weights_option
from diffsmooth.lit.training.checkpoint_files import read_trained
from diffsmooth.models.checkpoints.formats import read_checkpoint
from diffsmooth.models.checkpoints.half_precision import halved
from diffsmooth.models.checkpoints.image_cards import training_images_of
from diffsmooth.models.checkpoints.plain_files import write_plain
from diffsmooth.models.checkpoints.published_networks import Code
from diffsmooth.models.checkpoints.weights import Checkpoint, write_checkpoint
from diffsmooth.pipeline.output_checks import check_file
from diffsmooth.shown_text import shown, word
from diffsmooth.stats.errors import UserError

PLAIN = """write the file for other people's code: of a U-Net the bare state dict, with OpenAI's
keys; of a classifier {epoch, arch, state_dict}, with that code's names and keys. It does not say
what the network was trained on; what that code would load wrongly is refused. Of the U-Nets,
certify.py then knows the published architectures only"""
CODE = f"""of a plain classifier, whose code it is for: {", ".join(get_args(Code))}. cohen, the
default, is locuslab/smoothing and, as they are published now, smoothing-adversarial, DiffSmooth and
smoothing-consistency, which put standard in front (DiffSmooth 0.5,0.5 for its BEiT)"""
NORMALIZE = (
    "of a plain classifier whose file does not say it: the input layer it was trained behind"
)
HALF = "store the weights in half precision, which takes half the room and rounds them"


def main(args: list[str] | None = None, prog: str = "diffsmooth export") -> None:
    """Runs the command on `args`, by default the process's."""
    parser = OneLineParser(prog=prog, description=__doc__)
    parser.add_argument("checkpoint", type=str, help="a .ckpt that train.py wrote")
    parser.add_argument("outfile", type=str, help="file to write; not the checkpoint itself")
    parser.add_argument("--plain", action="store_true", help=PLAIN)
    parser.add_argument("--code", type=str, default="", help=CODE)
    parser.add_argument("--normalize", type=str, default="", help=NORMALIZE)
    parser.add_argument("--half", action="store_true", help=HALF)
    add_weights_option(parser)
    namespace = parser.parse_args(args)
    with user_errors(prog):
        _check_options(namespace)
        outfile = Path(namespace.outfile)
        check_file(outfile)
        checkpoint = read_trained(namespace.checkpoint, namespace.weights)
        if outfile.exists() and outfile.samefile(checkpoint.path):
            raise UserError(f"{outfile}: is the checkpoint itself; give the weights another name")
        images = training_images_of(checkpoint).record
        said = []
        if namespace.plain:
            plain = write_plain(outfile, checkpoint, namespace.code or None, namespace.normalize)
            said += [f"{outfile}: {plain.said}"] if plain.said else []
            _tell_loss(prog, checkpoint, read_checkpoint(outfile), images is not None)
        else:
            weights = checkpoint.state_dict
            if namespace.half:
                half = halved(checkpoint.path, weights)
                weights = half.weights
                said.append(
                    f"{outfile}: half precision: changes a weight by at most {half.change:.2g} "
                    f"of the largest in its tensor{f' ({word(half.name)})' if half.name else ''}"
                )
            write_checkpoint(outfile, checkpoint.metadata, weights, checkpoint.epoch, images)
    if checkpoint.note:
        print(checkpoint.note)
    numbers = sum(value.numel() for value in checkpoint.state_dict.values())
    print(f"{shown(outfile)}: {checkpoint.metadata.kind}, {numbers:,} numbers")
    for line in said:
        print(shown(line))


def _check_options(given: Namespace) -> None:
    """Raises UserError for options that would do nothing."""
    if not given.plain:
        for name in ("code", "normalize"):
            if getattr(given, name):
                raise UserError(f"--{name} is of --plain")
    if given.plain and given.half:
        raise UserError("--half is not of --plain, whose files are in float32 as published")


def _tell_loss(prog: str, checkpoint: Checkpoint, plain: Checkpoint, had_images: bool) -> None:
    """Says on stderr what a plain file no longer tells its reader."""
    told, kept = checkpoint.metadata._asdict(), plain.metadata._asdict()
    lost = [name for name, value in told.items() if kept[name] != value]
    lost += ["which images trained it"] if had_images else []
    if lost:
        unknown = plain.metadata.kind == "unet" and not plain.metadata.preset
        unreadable = "; certify.py cannot use it: no published architecture" if unknown else ""
        print(
            f"{prog}: note: plain, it does not say {', '.join(lost)}{unreadable}", file=sys.stderr
        )
