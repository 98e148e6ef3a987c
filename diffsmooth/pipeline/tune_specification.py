"""What `tune` is to do, checked: what is chosen, on which images, and by how many votes."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from diffsmooth.pipeline.option_checks import check_local_noise
from diffsmooth.pipeline.option_records import option, required
from diffsmooth.pipeline.output_checks import (
    check_ending,
    check_file,
    check_no_input,
    data_files,
)
from diffsmooth.pipeline.specification import VotingOptions
from diffsmooth.stats import FixedSampleSize, Plan
from diffsmooth.stats.bounds import votes_to_reach
from diffsmooth.stats.errors import UserError
from diffsmooth.stats.plan_making import make_plan
from diffsmooth.stats.plan_words import DEFAULT_PLAN
from diffsmooth.stats.printed import exact, rounded_down, rounded_up

if TYPE_CHECKING:
    from diffsmooth.models.smoothing.sweep import Setting
    from diffsmooth.stats.outlook import Goal

STEPS_FROM_TRAINED = (-0.05, 0.0, 0.01, 0.02, 0.05, 0.1)
NUMBERS = (1, 3, 5)
PLANNED_N = 10_000  # certify's default


@dataclass(frozen=True, kw_only=True)
class TuneOptions(VotingOptions):
    """What is chosen, on which images, and by how many votes."""

    dataset: str = required("fashion_mnist, cifar10, imagenet, or a folder with train/ or "
        "train.npz in it: the images are training images, whatever else there is")  # fmt: skip
    outfile: str = required("YAML file to write, for certify.py --config; the sweep's .sweep.csv "
        "and .sweep.png lie beside it")  # fmt: skip
    radius: float | None = option(None, "l2 radius at which the planned run's certified accuracy "
        "decides, in [0, 1] pixel units; default: SIGMA, where the class needs a little over 84 % "
        "of the votes")  # fmt: skip
    planned_n: int = option(PLANNED_N, "votes an image of the run to come; with its --alpha, they "
        "say which share of the votes certifies the "
        "radius", "--planned_N", "--planned_n", least=1)  # fmt: skip
    plan: str = option(DEFAULT_PLAN, "of the run to come: fixed, or group_sequential (up to "
        "planned_N votes)")  # fmt: skip
    radii: list[float] | None = option(None, "of a group_sequential run to come, as for certify; "
        "RADIUS must be one of them. By default certify's, and RADIUS")  # fmt: skip
    sigma_local: list[float] | None = option(
        None,
        "levels of local noise to try, standard deviations in [0, 1] pixel units; by default "
        "sigma' (the noise that the classifier was trained at) plus "
        f"{', '.join(f'{step:g}' for step in STEPS_FROM_TRAINED)}, at least 0; and 0 with "
        "--purifier none",
        "--sigma_local",
        "--local_noise_sd",
        check=check_local_noise,
    )
    m: list[int] = option(list(NUMBERS), "numbers of local copies to try", least=1)
    images: int = option(200, "training images, evenly chosen from those that the classifier's "
        "training left out, or else held out for validation, as its checkpoint "
        "says", least=1)  # fmt: skip
    validation_images: int | None = option(None, "where it does not say: so many were held out "
        "(data.validation_images; default: 2000), and are chosen from", least=1)  # fmt: skip
    validation_seed: int | None = option(None, "where it does not say: data.seed of its training "
        "(default: 0)", least=0)  # fmt: skip
    trained_images: bool = option(False, "choose from all training images, though they trained the "
        "classifier: all settings then look better than they are")  # fmt: skip
    n0: int = option(20, "votes of the first stage, by which certify selects a class; here all N0 "
        "+ N votes count alike", "--n0", "--N0", least=1)  # fmt: skip
    n: int = 100
    batch: int = option(60, "votes a forward pass", least=1)
    accelerator: str = option("auto", "auto, cpu or gpu")
    overwrite: bool = option(False, "replace the three files")

    def __post_init__(self) -> None:
        super().__post_init__()
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

    def check_inputs(self) -> Self:
        check_ending(self.files[0], (".yaml", ".yml"))
        for path in self.files:
            check_file(path)
            if path.exists() and not self.overwrite:
                raise UserError(f"{path} exists: give another name, or --overwrite to replace it")
        check_no_input(self.files, data_files(self.dataset, self.data_root))
        return super().check_inputs()

    @property
    def files(self) -> tuple[Path, Path, Path]:
        """What is written: the config, the sweep and its figure."""
        outfile = Path(self.outfile)
        return outfile, outfile.with_suffix(".sweep.csv"), outfile.with_suffix(".sweep.png")

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
    def goal(self) -> "Goal":
        """By what the settings are judged.

        Raises:
            UserError: the planned run can never certify the radius.
        """
        from diffsmooth.stats.outlook import goal_of  # SciPy takes a second

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

    def settings(self, trained: float | None) -> "list[Setting]":
        """The settings of the sweep, by sigma_local, then m.

        Without local noise all copies are the same, and one of them is enough.

        Args:
            trained: noise that the classifier was trained at (sigma'), None where not known.

        Raises:
            UserError: it is needed and not known.
        """
        from diffsmooth.models.smoothing.sweep import Setting  # torch takes seconds

        levels = self.sigma_local
        if levels is None:
            if trained is None:
                raise UserError(
                    f"{self.classifier}: does not say at which noise it was trained: give the "
                    "values of --sigma_local"
                )
            levels = [max(0.0, round(trained + step, 9)) for step in STEPS_FROM_TRAINED]
            if not self.kind.denoiser:
                levels.append(0.0)  # Cohen's method: the votes' own noise is still there
        return [
            Setting(level, m)
            for level in sorted(set(levels))
            for m in sorted(set(self.m) if level else {1})
        ]

    def for_certify(self, setting: "Setting", diffusion: str, input_layer: str) -> dict[str, Any]:
        """What certify.py needs to repeat a setting, by the names of its options.

        Args:
            diffusion: file of the diffusion model, "" where there is none.
            input_layer: the classifier's, "" where its checkpoint says it.
        """
        grid = self.planned.nothing(self.sigma).grid
        told: dict[str, Any] = {
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
            "plan": None if self.plan == DEFAULT_PLAN else self.plan,
            "radii": list(grid) or None,
            "diffusion": diffusion or None,
            "pad": self.pad if diffusion else None,
            "image_size": self.image_size,
            "exif": self.exif,
            "convention": self.convention,
            "steps": self.steps,
            "runs": self.runs,
            "arch": self.arch,
            "normalize": input_layer or None,
            "precision": None if self.precision == "auto" else self.precision,
            "weights": self.weights,
        }
        return {name: value for name, value in told.items() if value is not None}
