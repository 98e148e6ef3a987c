"""The plan that a user asks for, checked before a vote is cast: whatever its author wrote."""

import inspect
import math
from itertools import pairwise
from typing import Any

import numpy as np

from diffsmooth.stats.errors import UserError, option_values
from diffsmooth.stats.plan_words import PLANS, kind_of, plan_class, plan_of_text
from diffsmooth.stats.plans import Plan
from diffsmooth.stats.reanalysis import recompute

# Of the votes, for the class that is selected: what certifies far, barely, and not at all.
REHEARSED_SHARES = (1.0, 0.9, 0.6, 0.5, 0.4)


def make_plan(word: str, **options: Any) -> Plan:
    """The plan that a user asks for.

    Args:
        word: see `PLANS`, or `package.module:name`.
        **options: what the plan is constructed with; None is not given.

    Raises:
        UserError: no such plan, options that it does not have, or out of range; see `check_plan`.
    """
    kind = plan_class(word)
    given = {name: value for name, value in options.items() if value is not None}
    for name in given:
        owners = [one for one in (*PLANS, word) if name in inspect.signature(PLANS[one]).parameters]
        if word not in owners:
            if name in inspect.signature(Plan).parameters:  # nobody's option: all plans have it
                raise UserError(f"plan {word} must take n0, n and alpha when it is made")
            raise UserError(f"{name} is of plan {' or '.join(owners)}, not of {word}")
    with option_values():
        plan = kind(**given)
    check_plan(plan)
    return plan


def check_plan(plan: Plan) -> None:
    """Checks that a plan keeps the guarantee, and that what it writes can be read again.

    Raises:
        UserError: its levels are more than alpha; it is not found by its name or its text; or its
            own certificates, rehearsed, are not what their votes give by `recompute`.
    """
    with option_values():
        name = getattr(plan, "name", None)
        own = f"{type(plan).__module__}:{type(plan).__qualname__}"
        if not isinstance(name, str):
            raise ValueError(f"plan {own} has no name: give it name = {own!r}")
        if kind_of(name) is not type(plan) or type(plan_of_text(str(plan))) is not type(plan):
            raise ValueError(
                f"plan {own}: its name or its text are those of another plan; it is called "
                f"{name!r}, and would be found by {own!r}"
            )
        _check_levels(plan)
        try:
            _rehearse(plan)
        except ValueError as error:
            raise ValueError(f"plan {name} could not be read again: {error}") from error


def _check_levels(plan: Plan) -> None:
    """Raises ValueError unless the union bound over the looks holds."""
    looks, levels = plan.looks, plan.levels
    rising = all(one < other for one, other in pairwise((0, *looks)))
    if not (rising and looks[-1:] == (plan.n,) and len(looks) == len(levels)):
        raise ValueError(f"plan {plan.name}: looks must rise to n {plan.n}, each with its level")
    if min(levels) <= 0 or math.fsum(levels) > plan.alpha * (1 + 1e-12):
        raise ValueError(f"plan {plan.name}: its levels must add up to alpha {plan.alpha} at most")
    if levels[-1] != max(levels):
        raise ValueError(f"plan {plan.name}: the last look's level must be the highest")


def _rehearse(plan: Plan) -> None:
    """Raises ValueError unless certificates of some votes, and of none, are computed again."""
    recompute(plan.nothing(1.0))
    for label in (0, 1):  # that of most votes, and another
        for share in REHEARSED_SHARES:
            run = plan.start(1.0, 2, label)
            while run.wanted:
                most = math.ceil(share * run.wanted) if run.stage else run.wanted
                run.update(np.array([most, run.wanted - most]))
            recompute(run.certificate)
