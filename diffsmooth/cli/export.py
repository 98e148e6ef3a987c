"""`diffsmooth export`: the weights of a training checkpoint, without the optimiser's state."""

import sys
from pathlib import Path

from diffsmooth.cli.errors import OneLineParser, user_errors
from diffsmooth.cli.network_options import add_weights_option
from diffsmooth.cli.output_checks import check_file
from diffsmooth.lit.training.checkpoint_files import read_trained
from diffsmooth.models.formats import read_checkpoint
from diffsmooth.models.image_cards import training_images_of
from diffsmooth.models.weights import Checkpoint, write_checkpoint, write_plain
from diffsmooth.shown_text import shown
from diffsmooth.stats.errors import UserError

PLAIN = """write the file as the field does, for other code: of a U-Net the bare state dict, with
OpenAI's keys; of a classifier {epoch, arch, state_dict}, as Cohen's. It does not say what the
network was trained on; of the U-Nets, certify.py then knows the published architectures only"""


def main(args: list[str] | None = None, prog: str = "diffsmooth export") -> None:
    """Runs the command on `args`, by default the process's."""
    parser = OneLineParser(prog=prog, description=__doc__)
    parser.add_argument("checkpoint", type=str, help="a .ckpt that train.py wrote")
    parser.add_argument("outfile", type=str, help="file to write; not the checkpoint itself")
    parser.add_argument("--plain", action="store_true", help=PLAIN)
    add_weights_option(parser)
    namespace = parser.parse_args(args)
    with user_errors(prog):
        outfile = Path(namespace.outfile)
        check_file(outfile)
        checkpoint = read_trained(namespace.checkpoint, namespace.weights)
        if outfile.exists() and outfile.samefile(checkpoint.path):
            raise UserError(f"{outfile}: is the checkpoint itself; give the weights another name")
        images = training_images_of(checkpoint).record
        content = checkpoint.metadata, checkpoint.state_dict, checkpoint.epoch
        if namespace.plain:
            write_plain(outfile, *content)
            _tell_loss(prog, checkpoint, read_checkpoint(outfile), images is not None)
        else:
            write_checkpoint(outfile, *content, images)
    if checkpoint.note:
        print(checkpoint.note)
    numbers = sum(value.numel() for value in checkpoint.state_dict.values())
    print(f"{shown(outfile)}: {checkpoint.metadata.kind}, {numbers:,} numbers")


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
