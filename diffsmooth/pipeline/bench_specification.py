"""What `bench` is to measure, checked."""

from dataclasses import dataclass

from diffsmooth.models.words import SourceName
from diffsmooth.pipeline.option_records import OptionRecord, option
from diffsmooth.stats.errors import UserError

SECTIONS = ("speed", "memory", "processes", "sequential")
WORKLOADS = {
    "full": "CIFAR-10 size: U-Net of 52.5 M, ResNet-110, m = 5 (random weights)",
    "small": "shipped networks: U-Net of 1.2 M, ResNet-20, m = 5",
    "cohen": "Cohen's method: the shipped ResNet-20 alone",
}
MODES = ("plain", "float32", "bf16", "compiled")
MOST_SECONDS = 1e5


@dataclass(frozen=True, kw_only=True)
class BenchOptions(OptionRecord):
    """What, how, and how often."""

    sections: list[str] = option(list(SECTIONS), f"what to measure, of {', '.join(SECTIONS)}")
    workloads: list[str] = option(
        list(WORKLOADS), "; ".join(f"{name}: {title}" for name, title in WORKLOADS.items())
    )
    settings: list[str] | None = option(None, "of the engine: plain (float32, networks as loaded), "
        "float32 and bf16 (prepared for many votes), compiled (bf16); by default bf16 where the "
        "hardware computes in it, and compiled on GPUs only")  # fmt: skip
    accelerator: str = option("auto", "auto, cpu or gpu")
    noise: SourceName = option("numpy", "source of the votes' noise: numpy or device")
    batch: int = option(50, "votes a forward pass", least=1)
    seconds: float = option(5.0, "of a repetition of the published loop, about")
    repetitions: int = option(5, "the median is printed", least=1)
    images: int = option(20, "of the sequential section", least=1)
    n: int = option(100_000, "votes of the memory and sequential sections", "--n", "--N", least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.seconds <= MOST_SECONDS:
            raise UserError(f"seconds must be > 0 and at most {MOST_SECONDS:g}, got {self.seconds}")
        known = {"sections": SECTIONS, "workloads": WORKLOADS, "settings": MODES}
        for name, words in known.items():
            for word in getattr(self, name) or ():
                if word not in words:
                    raise UserError(f"{name} must be of {', '.join(words)}, got {word!r}")
