"""What `export` is to write, checked."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self, get_args

from diffsmooth.models.words import Code, SetName
from diffsmooth.pipeline.option_records import OptionRecord, option, required
from diffsmooth.pipeline.output_checks import check_file, check_trained
from diffsmooth.pipeline.specification import WEIGHTS
from diffsmooth.stats.errors import UserError

PLAIN = """write the file for other people's code: of a U-Net the bare state dict, with OpenAI's
keys; of a classifier {epoch, arch, state_dict}, with that code's names and keys. It does not say
what the network was trained on; what that code would load wrongly is refused. Of the U-Nets,
certify.py then knows the published architectures only"""
CODE = f"""of a plain classifier, whose code it is for: {", ".join(get_args(Code))}. cohen, the
default, is locuslab/smoothing and, as they are published now, smoothing-adversarial, DiffSmooth and
smoothing-consistency, which put standard in front (DiffSmooth 0.5,0.5 for its BEiT)"""


@dataclass(frozen=True, kw_only=True)
class ExportOptions(OptionRecord):
    """Which checkpoint, and in which form."""

    checkpoint: str = required("a .ckpt that train.py wrote", shipped=True)
    outfile: str = required("file to write; not the checkpoint itself")
    plain: bool = option(False, PLAIN)
    code: str = option("", CODE)
    normalize: str = option("", "of a plain classifier whose file does not say it: the input layer "
        "it was trained behind")  # fmt: skip
    half: bool = option(False, "store the weights in half precision, which takes half the room and "
        "rounds them")  # fmt: skip
    weights: SetName | None = option(None, WEIGHTS)

    def __post_init__(self) -> None:
        super().__post_init__()
        # What would do nothing is not what its user wanted.
        for name in ("code", "normalize"):
            if getattr(self, name) and not self.plain:
                raise UserError(f"--{name} is of --plain")
        if self.plain and self.half:
            raise UserError("--half is not of --plain, whose files are in float32 as published")

    def check_inputs(self) -> Self:
        """These options, whose files are there or can be written.

        Raises:
            UserError: one is missing or cannot be written.
        """
        check_file(Path(self.outfile))
        check_trained(self.checkpoint)
        return self
