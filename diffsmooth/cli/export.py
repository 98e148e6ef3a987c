"""`diffsmooth export`: the weights of a training checkpoint, without the optimiser's state."""

from diffsmooth.cli.errors import OneLineParser, user_errors
from diffsmooth.models.formats import read_checkpoint
from diffsmooth.models.weights import write_checkpoint


def main(args: list[str] | None = None, prog: str = "diffsmooth export") -> None:
    """Runs the command on `args`, by default the process's."""
    parser = OneLineParser(prog=prog, description=__doc__)
    parser.add_argument("checkpoint", type=str, help="a .ckpt that train.py wrote")
    parser.add_argument("outfile", type=str, help="file to write")
    namespace = parser.parse_args(args)
    with user_errors(prog, ValueError, OSError):
        checkpoint = read_checkpoint(namespace.checkpoint)
        write_checkpoint(
            namespace.outfile, checkpoint.metadata, checkpoint.state_dict, checkpoint.epoch
        )
    numbers = sum(value.numel() for value in checkpoint.state_dict.values())
    print(f"{namespace.outfile}: {checkpoint.metadata.kind}, {numbers:,} numbers")
