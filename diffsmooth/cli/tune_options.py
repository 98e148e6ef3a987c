"""The options of `tune`: what is chosen, on which images, and by how many votes."""

import math
from dataclasses import dataclass
from typing import Any

from jsonargparse import ActionYesNo, ArgumentParser

from diffsmooth.cli.errors import option_values
from diffsmooth.cli.network_options import VotingOptions, add_voting_options
from diffsmooth.cli.option_checks import check_most, check_noise
from diffsmooth.models.sweep import Setting
from diffsmooth.stats import FixedSampleSize, GroupSequential
from diffsmooth.stats.bounds import votes_to_reach
from diffsmooth.stats.errors import UserError
from diffsmooth.stats.outlook import Goal, goal_of
from diffsmooth.stats.printed import exact, rounded_down, rounded_up

STEPS_FROM_TRAINED = (-0.05, 0.0, 0.01, 0.02, 0.05, 0.1)
NUMBERS = (1, 3, 5)
PLANNED_N = 10_000  # certify's default
CERTIFY_NAMES = ("image_size", "exif", "convention", "steps", "runs", "arch")


@dataclass(frozen=True)
class TuneOptions(VotingOptions):
    """The options, checked for their ranges; see `add_tune_options` for their meaning."""

    outfile: str
    n0: int
    m: list[int]
    sigma_local: list[float] | None
    radius: float | None
    plan: str
    planned_n: int
    radii: list[float] | None
    images: int
    validation_images: int | None
    validation_seed: int | None
    trained_images: bool
    accelerator: str
    overwrite: bool

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_lowest({"n0": 1, "images": 1, "validation_images": 1, "validation_seed": 0})
        self.check_word("plan", ("fixed", "group_sequential"))
        if self.planned_n < 1:
            raise UserError(f"planned_N must be at least 1, got {self.planned_n}")
        check_most("planned_N", self.planned_n)
        if min(self.m) < 1:
            raise UserError(f"m must be at least 1, got {min(self.m)}")
        check_most("m", max(self.m))
        check_most("n0", self.n0)
        for level in self.sigma_local or ():
            check_noise("sigma_local", level, zero=True)
        if not 0 <= self.target < math.inf:
            raise UserError(f"radius must be >= 0 and finite, got {self.radius}")
        if self.radii is not None and self.plan != "group_sequential":
            raise UserError("radii is of plan group_sequential, not of fixed")
        if self.radii is not None and self.target not in self.radii:
            raise UserError(f"radii must have the radius {exact(self.target)} among them")
        for name in ("validation_images", "validation_seed"):
            if self.trained_images and getattr(self, name) is not None:
                raise UserError(f"give trained_images or {name}, not both")
        enough, share = self.goal.enough_votes, rounded_up(self.goal.share, 4)
        if self.votes.max_votes < enough:
            needed = enough - self.n0
            raise UserError(
                f"radius {exact(self.target)}: the planned run needs {share} of the votes "
                f"for it, which {self.votes.max_votes} votes hardly tell from all: give "
                f"--N {needed}, or a smaller --radius"
            )

    @property
    def target(self) -> float:
        """The radius that settings are judged at: --radius, or sigma."""
        return self.sigma if self.radius is None else self.radius

    @property
    def votes(self) -> FixedSampleSize:
        """How many votes an image gets here; alpha has no part in it."""
        return FixedSampleSize(self.n0, self.n, self.alpha)

    @property
    def planned(self) -> FixedSampleSize | GroupSequential:
        """The run to come; its selection votes do not matter here."""
        if self.plan == "fixed":
            return FixedSampleSize(n=self.planned_n, alpha=self.alpha)
        radii = {*(self.radii or GroupSequential.radii), self.target}
        with option_values():
            return GroupSequential(n=self.planned_n, alpha=self.alpha, radii=tuple(radii))

    @property
    def goal(self) -> Goal:
        """By what the settings are judged.

        Raises:
            UserError: the planned run can never certify the radius.
        """
        planned = self.planned
        goal = goal_of(planned, self.target, self.sigma)
        if goal is None:
            largest = rounded_down(planned.nothing(self.sigma).max_radius)
            needed = votes_to_reach(self.target, self.sigma, self.alpha)
            how = "no number will do: give a smaller --radius"
            if needed < math.inf:
                how = (
                    f"at least {needed:g} are needed: give a larger --planned_N or a smaller "
                    "--radius"
                )
            raise UserError(
                f"radius {exact(self.target)}: {self.planned_n} votes certify at most {largest} at "
                f"sigma {exact(self.sigma)}, {how}"
            )
        return goal

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
            "n": self.planned_n,
            "alpha": self.alpha,
            "local_seed": self.local_seed,
            "purifier": self.purifier,
        }
        planned = self.planned
        if isinstance(planned, GroupSequential):
            chosen |= {"plan": self.plan, "radii": list(planned.radii)}
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
        help="l2 radius at which the planned run's certified accuracy decides, in [0, 1] pixel "
        "units; default: SIGMA, where the class needs a little over 84 % of the votes")  # fmt: skip
    add("--planned_N", "--planned_n", dest="planned_n", type=int, default=PLANNED_N,
        help="votes an image of the run to come; with its --alpha, they say which share of the "
        "votes certifies the radius")  # fmt: skip
    add("--plan", type=str, default="fixed",
        help="of the run to come: fixed, or group_sequential (up to planned_N votes)")  # fmt: skip
    add("--radii", type=float, nargs="+", default=None,
        help="of a group_sequential run to come, as for certify; RADIUS must be one of them. By "
        "default certify's, and RADIUS")  # fmt: skip
    add("--sigma_local", "--local_noise_sd", dest="sigma_local", type=float, nargs="+",
        default=None, help="levels of local noise to try, standard deviations in [0, 1] pixel "
        "units; by default sigma' (the noise that the classifier was trained at) plus "
        f"{', '.join(f'{step:g}' for step in STEPS_FROM_TRAINED)}, at least 0; and 0 with "
        "--purifier none")  # fmt: skip
    add("--m", type=int, nargs="+", default=list(NUMBERS), help="numbers of local copies to try")
    add("--images", type=int, default=200,
        help="training images, evenly chosen from those that the classifier's training left out, "
        "or else held out for validation, as its checkpoint says")  # fmt: skip
    add("--validation_images", type=int | None, default=None,
        help="where it does not say: so many were held out (data.validation_images; default: "
        "2000), and are chosen from")  # fmt: skip
    add("--validation_seed", type=int | None, default=None,
        help="where it does not say: data.seed of its training (default: 0)")  # fmt: skip
    add("--trained_images", action=ActionYesNo, default=False,
        help="choose from all training images, though they trained the classifier: all settings "
        "then look better than they are")  # fmt: skip
    add("--n0", "--N0", dest="n0", type=int, default=20,
        help="votes of the first stage, by which certify selects a class; here all N0 + N votes "
        "count alike")  # fmt: skip
    add_voting_options(parser, batch=60, n=100)
    add("--accelerator", type=str, default="auto", help="auto, cpu or gpu")
    add("--overwrite", action=ActionYesNo, default=False, help="replace the three files")
