"""What `visualize` is to draw, checked."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from diffsmooth.lit.data.names import check_dataset
from diffsmooth.models.checkpoints.file_claims import first_bytes
from diffsmooth.pipeline.option_checks import check_noise
from diffsmooth.pipeline.option_records import option, required
from diffsmooth.pipeline.output_checks import check_ending, check_file, check_no_input, data_files
from diffsmooth.pipeline.specification import PurifierOptions

ENDINGS = (".png", ".pdf", ".svg")


@dataclass(frozen=True, kw_only=True)
class VisualizeOptions(PurifierOptions):
    """Which images, under which noise."""

    outfile: str = required("PNG, PDF or SVG to write, by its ending")
    images: list[int] = option([0], "indices of images in the dataset")
    split: str = option("test", "train or test")
    sigma: list[float] = option([0.25, 0.5, 1.0], "noise levels, standard deviations in [0, 1] "
        "pixel units", check=check_noise)  # fmt: skip
    seed: int = option(0, "seed of the noise")
    precision: str = option("auto", "float32, bf16 (layers only), or auto: bf16 where the hardware "
        "has it")  # fmt: skip
    accelerator: str = option("auto", "auto, cpu or gpu")

    def check_inputs(self) -> Self:
        outfile = Path(self.outfile)
        check_ending(outfile, ENDINGS)
        check_file(outfile)
        check_no_input([outfile], data_files(self.dataset, self.data_root))
        check_dataset(self.dataset)
        if self.diffusion_file is not None:
            first_bytes(self.diffusion_file)
        return self
