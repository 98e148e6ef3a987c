"""The weights of a training checkpoint in a file of their own."""

from pathlib import Path
from typing import Any

from diffsmooth.lit.training.checkpoint_files import read_trained
from diffsmooth.models.checkpoints.formats import read_checkpoint
from diffsmooth.models.checkpoints.image_cards import training_images_of
from diffsmooth.models.checkpoints.plain_files import write_plain
from diffsmooth.models.checkpoints.saving import halved
from diffsmooth.models.checkpoints.weights import Checkpoint, write_checkpoint
from diffsmooth.pipeline.command_specification import ExportOptions
from diffsmooth.shown_text import word
from diffsmooth.stats.errors import UserError


def export(options: ExportOptions) -> tuple[Checkpoint, list[str], str]:
    """Writes the weights.

    Returns:
        What the file holds; lines on what was changed; and what a plain file no longer tells its
        reader, in words, "" where nothing.

    Raises:
        UserError: a user's mistake.
    """
    outfile = Path(options.outfile)
    checkpoint = read_trained(options.checkpoint, options.weights)
    if checkpoint.build is not None or checkpoint.metadata.kind not in ("classifier", "unet"):
        raise UserError(
            f"{checkpoint.path}: is {checkpoint.family}, whose weights alone do not tell how the "
            "network is built: name it as it is wherever a network is wanted"
        )
    if outfile.exists() and outfile.samefile(checkpoint.path):
        raise UserError(f"{outfile}: is the checkpoint itself; give the weights another name")
    images = training_images_of(checkpoint).record
    if options.plain:
        code: Any = options.code or None
        plain = write_plain(outfile, checkpoint, code, options.normalize)
        said = [f"{outfile}: {plain.said}"] if plain.said else []
        lost = _lost(checkpoint, read_checkpoint(outfile), images is not None)
        return checkpoint, said, lost
    said, weights = [], checkpoint.state_dict
    if options.half:
        half = halved(checkpoint.path, weights)
        weights = half.weights
        said = [
            f"{outfile}: half precision: changes a weight by at most {half.change:.2g} "
            f"of the largest in its tensor{f' ({word(half.name)})' if half.name else ''}"
        ]
    write_checkpoint(outfile, checkpoint.metadata, weights, checkpoint.epoch, images)
    return checkpoint, said, ""


def _lost(checkpoint: Checkpoint, plain: Checkpoint, had_images: bool) -> str:
    told, kept = checkpoint.metadata._asdict(), plain.metadata._asdict()
    lost = [name for name, value in told.items() if kept[name] != value]
    lost += ["which images trained it"] if had_images else []
    unknown = plain.metadata.kind == "unet" and not plain.metadata.preset
    unreadable = "; certify.py cannot use it: no published architecture" if unknown else ""
    return f"plain, it does not say {', '.join(lost)}{unreadable}" if lost else ""
