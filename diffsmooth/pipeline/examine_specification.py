"""What `doctor` is to look at, checked, and the run whose costs are wanted."""

from dataclasses import dataclass

from diffsmooth.models.words import SetName
from diffsmooth.pipeline.option_checks import check_noise
from diffsmooth.pipeline.option_records import option, required
from diffsmooth.pipeline.specification import WEIGHTS, ImageOptions
from diffsmooth.stats.errors import UserError


@dataclass(frozen=True, kw_only=True)
class ExamineOptions(ImageOptions):
    """Checkpoints, on what a classifier is tried, and the run to come."""

    checkpoints: list[str] = required("files to look at", nargs="*", shipped=True)
    self_test: bool = option(False, "compare golden vectors and two images' votes with stored "
        "results")  # fmt: skip
    accelerator: str = option("auto", "auto, cpu or gpu")
    precision: str = option("auto", "float32, bf16 (layers only), or auto: bf16 where the hardware "
        "has it")  # fmt: skip
    compile: bool = option(False, "of the self-test: compile networks")
    dataset: str | None = option(None, "labelled images to try it on; by default what it was "
        "trained on")  # fmt: skip
    arch: str | None = option(None, "of a classifier that does not say")
    normalize: str = option("auto", "input layer, where you know it")
    diffusion: str | None = option(None, "diffusion model, for the costs", shipped=True)
    sigma: float = option(0.5, "of the planned run, for the costs", check=check_noise)
    m: int = option(5, "local copies a vote of the planned run", least=1)
    n: int = option(100_000, "votes an image of it", "--n", "--N", least=1)
    images: int = option(500, "images of it", least=1)
    weights: SetName | None = option(None, WEIGHTS)
    unsafe_load: bool = option(False, "run code that a file may hold")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.checkpoints and not self.self_test:
            raise UserError("give it checkpoints to look at, or --self_test")
        if self.compile and not self.self_test:
            raise UserError("--compile is of --self_test")
