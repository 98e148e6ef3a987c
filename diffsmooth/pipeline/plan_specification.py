"""How many votes an image of a certification gets."""

from dataclasses import dataclass

from diffsmooth.pipeline.option_records import OptionRecord, option
from diffsmooth.stats.errors import UserError
from diffsmooth.stats.group_sequential import GroupSequential
from diffsmooth.stats.plan_making import make_plan
from diffsmooth.stats.plan_words import DEFAULT_PLAN
from diffsmooth.stats.plans import Plan


@dataclass(frozen=True, kw_only=True)
class PlanOptions(OptionRecord):
    """A plan, but for N and alpha, which are among the shared options.

    A plan that has no parameter of an option's name refuses the option.
    """

    n0: int = option(100, "votes that select the class", "--n0", "--N0")
    plan: str = option(DEFAULT_PLAN, "fixed: N votes an image; group_sequential: up to N, stopping "
        "as soon as every radius of --radii is decided, with the same guarantee "
        "(docs/guarantee.md); PACKAGE.MODULE:NAME: a class of your own")  # fmt: skip
    radii: list[float] | None = option(None, "of group_sequential: the l2 radii that the table "
        "shall show, in [0, 1] pixel units; default: "
        f"{' '.join(f'{radius:g}' for radius in GroupSequential.radii)}")  # fmt: skip
    tolerance: float | None = option(None, "of group_sequential: instead of --radii, stop when the "
        "radius is at least 1 - TOLERANCE times what N votes would probably give")  # fmt: skip
    label_aware: bool = option(False, "of group_sequential: stop when the selected class is not "
        "the label; such images are marked skipped, and abstention is not known")  # fmt: skip
    first_look: int | None = option(None, "of group_sequential: votes before it may stop "
        f"(default: {GroupSequential.first_look})")  # fmt: skip

    def build_plan(self, n: int, alpha: float) -> Plan:
        """The plan that the options ask for.

        Raises:
            UserError: out of range, an unknown plan, or options that the plan would not use.
        """
        if self.radii and self.tolerance is not None:
            raise UserError("give radii or tolerance, not both")
        return make_plan(
            self.plan,
            n0=self.n0,
            n=n,
            alpha=alpha,
            radii=self.radii,
            tolerance=self.tolerance,
            label_aware=self.label_aware or None,
            first_look=self.first_look,
        )
