"""The options of `tune`: what is chosen, on which images, and by how many votes."""

import math
from dataclasses import dataclass
from typing import Any

from jsonargparse import ActionYesNo, ArgumentParser

from diffsmooth.cli.errors import option_values
from diffsmooth.cli.network_options import VotingOptions, add_voting_options
from diffsmooth.cli.option_checks import check_most, check_noise
from diffsmooth.models.sweep import Setting
from diffsmooth.stats import FixedSampleSize, largest_radius
from diffsmooth.stats.bounds import votes_to_reach
from diffsmooth.stats.errors import UserError
from diffsmooth.stats.printed import exact, rounded_down

STEPS_FROM_TRAINED = (-0.05, 0.0, 0.01, 0.02, 0.05, 0.1)
NUMBERS = (1, 3, 5)
ROOM = 1.1  # the votes must be able to certify so many times the radius, for some will be lost
CERTIFY_NAMES = ("image_size", "exif", "convention", "steps", "runs", "arch")


@dataclass(frozen=True)
class TuneOptions(VotingOptions):
    """The options, checked for their ranges; see `add_tune_options` for their meaning."""

    outfile: str
    n0: int
    m: list[int]
    sigma_local: list[float] | None
    radius: float | None
    images: int
    validation_images: int
    validation_seed: int
    accelerator: str
    overwrite: bool

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_lowest({"n0": 1, "images": 1, "validation_images": 1, "validation_seed": 0})
        if min(self.m) < 1:
            raise UserError(f"m must be at least 1, got {min(self.m)}")
        check_most("m", max(self.m))
        check_most("n0", self.n0)
        for level in self.sigma_local or ():
            check_noise("sigma_local", level, zero=True)
        if not 0 <= self.target < math.inf:
            raise UserError(f"radius must be >= 0 and finite, got {self.radius}")
        if self.images > self.validation_images:
            raise UserError(
                f"images must be at most the {self.validation_images} validation_images, "
                f"got {self.images}"
            )
        with option_values():
            largest = largest_radius(self.sigma, self.n, self.alpha)
        if largest < ROOM * self.target:
            needed = votes_to_reach(ROOM * self.target, self.sigma, self.alpha)
            how = f"give --N {needed}" if needed < math.inf else "no number of votes will do"
            raise UserError(
                f"radius {exact(self.target)}: {self.n} votes certify at most "
                f"{rounded_down(largest)} at sigma {exact(self.sigma)}, and too few votes may then "
                f"be lost: {how}, or a smaller --radius"
            )

    @property
    def target(self) -> float:
        """The radius that settings are judged at: --radius, or sigma."""
        return self.sigma if self.radius is None else self.radius

    @property
    def plan(self) -> FixedSampleSize:
        """How many votes an image gets."""
        return FixedSampleSize(self.n0, self.n, self.alpha)

    def settings(self, trained: float | None) -> list[Setting]:
        """The settings of the sweep, by sigma_local, then m.

        Without local noise all copies are the same, and one of them is enough.

        Args:
            trained: noise that the classifier was trained at (sigma'), None where not known.

        Raises:
            UserError: it is needed and not known.
        """
        levels = self.sigma_local
        if levels is None:
            if trained is None:
                raise UserError(
                    f"{self.classifier}: does not say at which noise it was trained: give the "
                    "values of --sigma_local"
                )
            levels = [max(0.0, round(trained + step, 9)) for step in STEPS_FROM_TRAINED]
            if self.purifier == "none":
                levels.append(0.0)  # Cohen's method: the votes' own noise is still there
        return [
            Setting(level, m)
            for level in sorted(set(levels))
            for m in sorted(set(self.m) if level else {1})
        ]

    def for_certify(self, setting: Setting, diffusion: str, input_layer: str) -> dict[str, Any]:
        """What certify.py needs to repeat a setting, by the names of its options.

        Args:
            setting: the one.
            diffusion: file of the diffusion model, "" where there is none.
            input_layer: of the classifier, "" where its checkpoint says it.
        """
        chosen: dict[str, Any] = {
            "dataset": self.dataset,
            "data_root": self.data_root,
            "split": "test",
            "classifier": self.classifier,
            "sigma": self.sigma,
            "local_noise_sd": setting.sigma_local,
            "m": setting.m,
            "local_seed": self.local_seed,
            "purifier": self.purifier,
        }
        if diffusion:
            chosen |= {"diffusion": diffusion, "pad": self.pad}
        for name in CERTIFY_NAMES:
            if getattr(self, name) is not None:
                chosen[name] = getattr(self, name)
        if input_layer:
            chosen["normalize"] = input_layer
        if self.precision != "auto":
            chosen["precision"] = self.precision
        if self.weights:
            chosen["weights"] = self.weights
        if self.unsafe_load:
            chosen["unsafe_load"] = True
        return chosen


def add_tune_options(parser: ArgumentParser) -> None:
    """Adds all options of the command."""
    add = parser.add_argument
    add("dataset", type=str, help="fashion_mnist, cifar10, imagenet, or a folder with train/ or "
        "train.npz in it: the images are training images, whatever else there is")  # fmt: skip
    add("classifier", type=str, help="checkpoint of the base classifier")
    add("sigma", type=float, help="noise level, standard deviation in [0, 1] pixel units")
    add("outfile", type=str, help="YAML file to write, for certify.py --config; the sweep's "
        ".sweep.csv and .sweep.png lie beside it")  # fmt: skip
    add("--radius", type=float | None, default=None,
        help="l2 radius at which certified accuracy decides, in [0, 1] pixel units; default: "
        "SIGMA, where the class needs 84 % of the votes")  # fmt: skip
    add("--sigma_local", "--local_noise_sd", dest="sigma_local", type=float, nargs="+",
        default=None, help="levels of local noise to try, standard deviations in [0, 1] pixel "
        "units; by default sigma' (the noise that the classifier was trained at) plus "
        f"{', '.join(f'{step:g}' for step in STEPS_FROM_TRAINED)}, at least 0; and 0 with "
        "--purifier none")  # fmt: skip
    add("--m", type=int, nargs="+", default=list(NUMBERS), help="numbers of local copies to try")
    add("--images", type=int, default=200, help="held-out training images, evenly chosen")
    add("--validation_images", type=int, default=2000,
        help="as in the classifier's training (data.validation_images): so many training images "
        "were held out, and are chosen from")  # fmt: skip
    add("--validation_seed", type=int, default=0, help="as in its training (data.seed)")
    add("--n0", "--N0", dest="n0", type=int, default=20, help="votes that select the class")
    add_voting_options(parser, batch=60, n=100)
    add("--accelerator", type=str, default="auto", help="auto, cpu or gpu")
    add("--overwrite", action=ActionYesNo, default=False, help="replace the three files")
