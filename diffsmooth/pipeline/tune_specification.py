"""What `tune` is to do, checked: what is chosen, on which images, and by how many votes."""

import math
from dataclasses import dataclass
from typing import Any

from diffsmooth.models.smoothing.purifiers import purifier_kind
from diffsmooth.models.smoothing.sweep import Setting
from diffsmooth.pipeline.option_checks import check_most, check_noise
from diffsmooth.pipeline.specification import VotingOptions
from diffsmooth.stats import FixedSampleSize, Plan
from diffsmooth.stats.bounds import votes_to_reach
from diffsmooth.stats.errors import UserError
from diffsmooth.stats.outlook import Goal, goal_of
from diffsmooth.stats.plan_text import DEFAULT_PLAN, make_plan
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
    def planned(self) -> Plan:
        """The run to come; its selection votes do not matter here.

        Raises:
            UserError: see `make_plan`; or radii without the one that settings are judged at.
        """
        votes = {"n": self.planned_n, "alpha": self.alpha}
        plan = make_plan(self.plan, radii=self.radii, **votes)
        grid = plan.nothing(self.sigma).grid
        if self.radii is not None and self.target not in grid:
            raise UserError(f"radii must have the radius {exact(self.target)} among them")
        return make_plan(self.plan, radii=(*grid, self.target), **votes) if grid else plan

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
            if not purifier_kind(self.purifier).denoiser:
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
        if self.plan != DEFAULT_PLAN:
            chosen["plan"] = self.plan
        if grid := self.planned.nothing(self.sigma).grid:
            chosen["radii"] = list(grid)
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
