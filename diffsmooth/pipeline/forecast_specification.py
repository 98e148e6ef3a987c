"""Which run `forecast` is to forecast, checked."""

from dataclasses import dataclass

from diffsmooth.pipeline.option_checks import check_alpha, check_rate
from diffsmooth.pipeline.option_records import OptionRecord, option, required


@dataclass(frozen=True, kw_only=True)
class ForecastOptions(OptionRecord):
    """A pilot, and the run to come, but for its plan."""

    pilot: str = required("journal (.jsonl) of a run on images of that kind, at that sigma")
    rate: float = required("votes a second of a device, as `diffsmooth bench` shows "
        "them", "--rate", check=check_rate)  # fmt: skip
    images: int = option(500, "images of the run", least=1)
    devices: list[int] = option([1, 8, 64], "numbers of devices", least=1)
    n: int = option(100_000, "votes an image, at most", "--n", "--N")
    alpha: float = option(0.001, "failure probability an image", check=check_alpha)
    seed: int = option(0, "of the simulation")
