"""What `attack` is to do, checked: which run, how far, how hard, and how its votes are read."""

import math
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Self

from diffsmooth.pipeline.option_checks import check_alpha
from diffsmooth.pipeline.option_records import option, required
from diffsmooth.pipeline.output_checks import check_no_input, check_place
from diffsmooth.pipeline.specification import ProcessOptions, SmoothingOptions
from diffsmooth.pipeline.stored_options import WhereItLies, stored_options
from diffsmooth.runs.identity import RunIdentity
from diffsmooth.runs.names import OutputFiles, RunFiles
from diffsmooth.runs.reading import Run, read_run
from diffsmooth.stats import Plan
from diffsmooth.stats.bounds import votes_to_answer
from diffsmooth.stats.errors import UserError, option_values
from diffsmooth.stats.plan_words import plan_of_text
from diffsmooth.stats.results import kind_of_noise

METHODS = ("pgd", "ddn")
FACTORS = (0.5, 0.9, 1.1, 2.0, 4.0)


def check_budget(name: str, budget: float) -> None:
    """Raises UserError unless it is one."""
    if not 0 < budget < math.inf:
        raise UserError(f"{name} must be > 0 and finite, got {budget}")


@dataclass(frozen=True, kw_only=True)
class AttackOptions(ProcessOptions, WhereItLies):
    """Which run, how far, how hard; networks and images are the run's unless said otherwise."""

    run: str = required("journal (.jsonl) or table of the certified run; its manifest lies beside "
        "it, and says the networks and the images")  # fmt: skip
    outfile: str = required("table to write, a line a try; its journal and manifest lie beside it")
    budgets: list[float] | None = option(None, "l2 budgets as multiples of each image's certified "
        f"radius (default: {' '.join(f'{factor:g}' for factor in FACTORS)}, unless --radii are "
        "given); images without a radius are then voted on as they are",
        check=check_budget)  # fmt: skip
    radii: list[float] | None = option(None, "l2 budgets, in [0, 1] pixel units, the same for all "
        "images", check=check_budget)  # fmt: skip
    methods: list[str] = option(list(METHODS), "pgd: as far from the class as each budget lets it; "
        "ddn: once, the smallest perturbation within the largest budget")  # fmt: skip
    steps: int = option(20, "gradient steps of a restart", least=1)
    restarts: int = option(1, "of each try; the best one is voted on", least=1)
    noise_samples: int = option(16, "noise draws that the attacked mean is over", least=1)
    search_votes: int = option(100, "votes of the attack's own, by which restarts are compared, "
        "and the smallest flip searched for", least=1)  # fmt: skip
    straight_through: bool = option(False, "take the purifier's gradient to be the identity: "
        "cheaper, and weaker")  # fmt: skip
    rows: int = option(50, "of a forward pass with gradients; of more, the activations are "
        "computed again on the way back, so that memory is that of so many", least=1)  # fmt: skip
    grid: bool = option(False, "move attacked images to the 8-bit grid, within their budget")
    max_images: int = option(100, "attack at most so many of the run's images, evenly spaced",
        least=1)  # fmt: skip
    n: int = option(1000, "votes on an attacked image (PREDICT)", "--n", "--N", least=1)
    alpha: float = option(0.001, "failure probability of a prediction, in (0, 1)",
        check=check_alpha)  # fmt: skip
    check_n: int = option(100_000, "fresh votes for each of PREDICT and CERTIFY, where a "
        "prediction contradicts a certificate", least=1)  # fmt: skip
    seed: int = option(0, "seed of the attack's noise and of the votes', which are streams of "
        "their own: neither is the run's")  # fmt: skip
    batch: int | None = option(None, "votes a forward pass (default: the run's)", least=1)
    precision: str | None = option(None, "as certify's; default: the run's")
    shard: str | None = option(None, "I/K: do the I-th of K parts of the tries, beside other "
        "processes with the same OUTFILE; the same command without it then says what came "
        "out")  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        for method in self.methods:
            if method not in METHODS:
                raise UserError(f"methods must be of {', '.join(METHODS)}, got {method!r}")
        # Fewer votes, all for one class, are no answer at that level: the test has two sides.
        least = votes_to_answer(self.alpha)
        for name, votes in (("search_votes", self.search_votes), ("N", self.n)):
            if votes < least:
                raise UserError(
                    f"{name} must be at least {least}, which answer at alpha {self.alpha:g} if all "
                    f"agree, got {votes}"
                )
        for name in ("methods", "budgets", "radii"):
            values = getattr(self, name) or []
            if len(set(values)) < len(values):
                raise UserError(f"{name} must differ, got {' '.join(map(str, values))}")

    def check_inputs(self) -> Self:
        out, attacked = OutputFiles(self.outfile), RunFiles.beside(Path(self.run))
        check_place(out.table)
        check_no_input((*out.results, out.manifest), (*attacked.whole, attacked.figure))
        if out.stem.absolute() == attacked.stem.absolute():
            raise UserError(f"{self.outfile}: has the name of the run that is attacked")
        _ = self.attacked
        return super().check_inputs()

    @cached_property
    def attacked(self) -> "AttackedRun":
        """The run.

        Raises:
            UserError: it cannot be read, or is no certification by the command.
        """
        return AttackedRun.read(self.run)

    @property
    def factors(self) -> list[float]:
        """Budgets as multiples of the radius, ascending."""
        default = [] if self.radii else FACTORS
        return sorted(default if self.budgets is None else self.budgets)

    def for_job(self) -> SmoothingOptions:
        """The options of the job: the attacked run's, where none are given here.

        Raises:
            UserError: what the run does not tell is not given.
        """
        told = self.attacked.identity
        given = {
            name: getattr(self, name)
            for name in (
                "outfile", "n", "alpha", "seed", "shard",
                *(one.name for one in fields(ProcessOptions)),
            )
        }  # fmt: skip
        return SmoothingOptions(
            **given,
            batch=self.batch or told.batch or "auto",
            precision=self.precision or told.precision or "auto",
            noise="float",  # of votes on images of any depth; see `AttackWork.source`
            sanity_check=False,  # the run has passed it
            **stored_options(told, self.attacked.run.context, self),
        )


@dataclass(frozen=True)
class AttackedRun:
    """A finished certification by the command.

    Attributes:
        run: its records, and what its manifest tells.
        identity: the manifest's.
        digest: short name of the identity.
        plan: of its certificates.
    """

    run: Run
    identity: RunIdentity
    digest: str
    plan: Plan

    @classmethod
    def read(cls, path: str) -> "AttackedRun":
        """The run of a journal or a table.

        Raises:
            UserError: it cannot be read, or is no certification by the command.
        """
        run = read_run(path)
        if not run.records or not run.identity:
            raise UserError(f"{path}: has no journal and no manifest, which say what to attack")
        origin = run.records[0].origin
        identity = RunIdentity.from_stored(run.identity)
        if origin is None or identity.command != "certify":
            raise UserError(f"{path}: is no certification, or of a version that says too little")
        if identity.is_from_python:
            raise UserError(
                f"{path}: was certified from Python, and does not hold its networks: certify by "
                "the command, which takes yours as package.module:factory"
            )
        with option_values():
            return cls(run, identity, origin.identity, plan_of_text(identity.plan))

    @property
    def is_exact(self) -> bool:
        """Whether its noise is exact, and its images stand for rationals on the 8-bit grid."""
        return kind_of_noise(str(self.identity.noise_source)) == "exact"
