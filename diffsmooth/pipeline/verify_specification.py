"""What `diffsmooth verify` is to check, and by what."""

from dataclasses import dataclass

from diffsmooth.pipeline.option_checks import check_alpha, check_noise, check_probability
from diffsmooth.pipeline.option_records import option, required
from diffsmooth.pipeline.stored_options import WhereItLies


@dataclass(frozen=True, kw_only=True)
class VerifyOptions(WhereItLies):
    """Which runs."""

    runs: list[str] = required("tables or journals of finished runs; or other people's tables, "
        "with the columns idx, label, predict, radius and correct")  # fmt: skip
    n: int | None = option(None, "of other people's tables: estimation votes an image, as stated "
        "there", "--n", "--N", least=1)  # fmt: skip
    n0: int | None = option(None, "of other people's tables: selection votes, which no radius "
        "depends on", "--n0", "--N0", least=1)  # fmt: skip
    alpha: float | None = option(None, "of other people's tables: failure probability an image",
        check=check_alpha)  # fmt: skip
    sigma: float | None = option(None, "of other people's tables: noise level, standard deviation "
        "in [0, 1] pixel units", check=check_noise)  # fmt: skip
    classes: int | None = option(None, "of other people's tables: number of classes", least=2)
    replay: int | None = option(None, "draw the votes of so many images again, chosen at random, "
        "and compare", least=1)  # fmt: skip
    seed: int | None = option(None, "of replay: of the choice of images; by default another one "
        "each time, which is said", least=0)  # fmt: skip
    tipped: float = option(0.01, "of replay: share of an image's votes that may differ on other "
        "hardware, or with other versions, where near-ties may tip",
        check=check_probability)  # fmt: skip
    accelerator: str = option("auto", "of replay, like all that follow: auto, cpu or gpu")
