"""What the commands beside `certify`, `predict` and `tune` are to do, checked."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self, get_args

from diffsmooth.models.words import USUAL_BATCH, Code, SetName, SourceName
from diffsmooth.pipeline.option_checks import (
    check_alpha,
    check_noise,
    check_probability,
    check_rate,
)
from diffsmooth.pipeline.option_records import OptionRecord, option, required
from diffsmooth.pipeline.output_checks import (
    check_ending,
    check_file,
    check_no_input,
    check_trained,
    data_files,
)
from diffsmooth.pipeline.plan_specification import PlanOptions
from diffsmooth.pipeline.specification import WEIGHTS, ImageOptions, PurifierOptions
from diffsmooth.stats.errors import UserError

GRID_ENDINGS = (".png", ".pdf", ".svg")


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
        check_ending(outfile, GRID_ENDINGS)
        check_file(outfile)
        check_no_input([outfile], data_files(self.dataset, self.data_root))
        return super().check_inputs()


@dataclass(frozen=True, kw_only=True)
class ExamineOptions(ImageOptions):
    """Checkpoints, on what a classifier is tried, and the run to come."""

    checkpoints: list[str] = required("files, folders, or package.module:factory, to look at",
        nargs="*", shipped=True)  # fmt: skip
    self_test: bool = option(False, "compare golden vectors, exact noise, and two images' votes "
        "as runs cast them with stored results")  # fmt: skip
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
    n: int = option(100_000, "votes an image of it, as in the papers (certify takes "
        "10,000)", "--n", "--N", least=1)  # fmt: skip
    images: int = option(500, "images of it, as in the papers; whatever `certify` would take",
        least=1)  # fmt: skip
    weights: str | None = option(None, f"{WEIGHTS}; or, of package.module:factory, the file of "
        "its weights")  # fmt: skip
    unsafe_load: bool = option(False, "run code that a file may hold")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.checkpoints and not self.self_test:
            raise UserError("give it checkpoints to look at, or --self_test")
        if self.compile and not self.self_test:
            raise UserError("--compile is of --self_test")


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

    checkpoint: str = required(
        "a .ckpt that train.py wrote, or another file that certify.py reads", shipped=True
    )
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
        check_file(Path(self.outfile))
        check_trained(self.checkpoint)
        return self


def check_radius(name: str, radius: float) -> None:
    """Raises UserError unless it is one."""
    if not 0 <= radius < math.inf:
        raise UserError(f"{name} must be >= 0 and finite, got {radius}")


@dataclass(frozen=True, kw_only=True)
class ReportOptions(OptionRecord):
    """Which runs, by which tables, and into which files."""

    runs: list[str] = required("journals (.jsonl), or tables with the columns idx, label, predict, "
        "radius, correct and perhaps time; a table of predictions has no radius")  # fmt: skip
    names: list[str] | None = option(None, "of the runs, in their order; by default their files'")
    radii: list[float] | None = option(None, "of the tables, l2, in [0, 1] pixel units; by default "
        "multiples of 0.25 up to 1.5 (ImageNet: of 0.5 up to 3), and the runs' own "
        "grids", check=check_radius)  # fmt: skip
    columns: list[str] | None = option(None, "of the table of certified accuracy, after the "
        "radii's; by default acr, abstained and images; also PACKAGE.MODULE:FUNCTION, from a run "
        "to a number or a text")  # fmt: skip
    decimals: int = option(3, "of the tables' numbers")
    attacks: list[str] = option([], "journals or tables of `diffsmooth attack` on these runs: "
        "empirical beside certified accuracy")  # fmt: skip
    paired: bool = option(False, "compare the first run with each other one, image by image: "
        "p-values for each radius alone (McNemar), and for all of them together "
        "(Holm)")  # fmt: skip
    envelope: bool = option(False, "the best of the runs at each radius, and which run it is")
    alpha: float | None = option(None, "analyse the votes at this failure probability; needs the "
        "journals", check=check_probability)  # fmt: skip
    table_alpha: float | None = option(None, "alpha of the tables without a journal, for the "
        "high-probability bound", check=check_probability)  # fmt: skip
    table: list[str] = option([], "write the tables: .txt, .md, .tex (booktabs) or .csv (numbers, "
        "one line a run and radius)")  # fmt: skip
    images: str | None = option(None, "write one line a run and image (.csv): file, names of label "
        "and prediction, radius, p_lower, votes")  # fmt: skip
    figure: list[str] = option([], "write certified accuracy against radius, and the distribution "
        "of p_A: .png, .pdf or .svg")  # fmt: skip
    html: str | None = option(None, "write one page with everything, to browse")
    tensorboard: str | None = option(None, "folder of TensorBoard events, one folder a run")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.names is not None:
            if len(self.names) != len(self.runs):
                raise UserError(f"names must be {len(self.runs)}, got {len(self.names)}")
            for name in self.names:
                if not name.isprintable() or not name.strip():
                    raise UserError(f"names must be printable, got {name!r}")
        if not 0 <= self.decimals <= 9:
            raise UserError(f"decimals must be in 0 .. 9, got {self.decimals}")
        if self.paired and len(self.runs) < 2:
            raise UserError("paired needs two runs or more")


@dataclass(frozen=True, kw_only=True)
class ForecastOptions(PlanOptions):
    """A pilot, and the run to come."""

    pilot: str = required("table or journal of a run on images of that kind, at that sigma")
    rate: float = required("votes a second of a device, as `diffsmooth bench` shows "
        "them", "--rate", check=check_rate)  # fmt: skip
    images: int = option(500, "images of the run, as in the papers; whatever `certify` would take",
        least=1)  # fmt: skip
    devices: list[int] = option([1, 8, 64], "numbers of devices", least=1)
    n: int = option(100_000, "votes an image, at most, as in the papers (certify takes "
        "10,000)", "--n", "--N")  # fmt: skip
    radii: list[float] | None = option(None, "of group_sequential: the l2 radii that the table "
        "shall show, in [0, 1] pixel units; by default the pilot's, where it is of that plan, or "
        "certify's default")  # fmt: skip
    alpha: float = option(0.001, "failure probability an image", check=check_alpha)
    seed: int = option(0, "of the simulation")
    plan: str = "group_sequential"


SECTIONS = ("speed", "memory", "processes", "sequential", "training")
BENCHMARKS = {
    "full": "CIFAR-10 size: U-Net of 52.5 M, ResNet-110, m = 5 (random weights)",
    "small": "shipped networks: U-Net of 1.2 M, ResNet-20, m = 5",
    "cohen": "Cohen's method: the shipped ResNet-20 alone",
    "resnet110": "Cohen's method at CIFAR-10 size: ResNet-110 alone (random weights)",
    "imagenet": "ImageNet size: U-Net of 552.8 M, BEiT-large, m = 5 (random weights)",
}
FOR_LAPTOPS = ("full", "small", "cohen")
SETTINGS = ("plain", "float32", "bf16", "compiled")
MOST_SECONDS = 1e5


@dataclass(frozen=True, kw_only=True)
class BenchOptions(OptionRecord):
    """What, how, and how often."""

    sections: list[str] = option(
        list(SECTIONS[:-1]), f"what to measure, of {', '.join(SECTIONS)}: images a second"
    )
    workloads: list[str] = option(
        list(FOR_LAPTOPS), "; ".join(f"{name}: {title}" for name, title in BENCHMARKS.items())
    )
    settings: list[str] | None = option(None, "of the engine: plain (float32, networks as loaded), "
        "float32 and bf16 (prepared for many votes), compiled (bf16); by default bf16 where the "
        "hardware computes in it, and compiled on GPUs only")  # fmt: skip
    accelerator: str = option("auto", "auto, cpu or gpu")
    noise: SourceName = option("integer", "source of the votes' noise: integer, float or device")
    batch: int | Literal["auto"] = option(50, "votes a forward pass; auto: on a GPU as many as fit "
        "(a power of two up to 4,096), else 50", least=1)  # fmt: skip
    loop_batch: list[int] | None = option(None, "of the published loop; the best of several "
        "counts; by default the engine's, with auto its authors' 50", least=1)  # fmt: skip
    seconds: float = option(4.0, "of a repetition, about")
    repetitions: int = option(5, "the median is printed", least=1)
    images: int = option(20, "of the sequential section", least=1)
    n: int = option(100_000, "votes of the memory and sequential sections", "--n", "--N", least=1)
    profile: bool = option(False, "of the speed section: where the time goes, by kinds of work")
    json: str | None = option(None, "file that gets all that is printed, as records")

    @property
    def fixed_batch(self) -> int:
        """Of the sections that choose none."""
        return USUAL_BATCH["certify"] if self.batch == "auto" else self.batch

    def check_inputs(self) -> Self:
        if self.json is not None:
            check_file(Path(self.json))
        return self

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.seconds <= MOST_SECONDS:
            raise UserError(f"seconds must be > 0 and at most {MOST_SECONDS:g}, got {self.seconds}")
        known = {"sections": SECTIONS, "workloads": BENCHMARKS, "settings": SETTINGS}
        for name, words in known.items():
            for word in getattr(self, name) or ():
                if word not in words:
                    raise UserError(f"{name} must be of {', '.join(words)}, got {word!r}")
