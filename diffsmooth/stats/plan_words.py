"""A plan from its word, and from its text, as it stands in a manifest."""

import ast
import inspect
import math
import sys
from itertools import pairwise
from typing import Any

from diffsmooth.shown_text import quoted
from diffsmooth.stats.errors import UserError, option_values
from diffsmooth.stats.group_sequential import GroupSequential
from diffsmooth.stats.plans import FixedSampleSize, MajorityVote, Plan
from diffsmooth.stats.registry import Registry

# By the words of --plan.
PLANS: Registry[type[Plan]] = Registry(
    "plan", fixed=FixedSampleSize, group_sequential=GroupSequential
)
DEFAULT_PLAN = "fixed"
OURS: tuple[type[Plan], ...] = (FixedSampleSize, GroupSequential, MajorityVote)


def make_plan(word: str, **options: Any) -> Plan:
    """The plan that a user asks for.

    Args:
        word: see `PLANS`, or `package.module:name`.
        **options: what the plan is constructed with; None is not given.

    Raises:
        UserError: no such plan, options that it does not have, or out of range.
    """
    kind = _checked(word)
    given = {name: value for name, value in options.items() if value is not None}
    for name in given:
        owners = [one for one in (*PLANS, word) if name in inspect.signature(PLANS[one]).parameters]
        if word not in owners:
            if name in inspect.signature(Plan).parameters:  # nobody's option: all plans have it
                raise UserError(f"plan {word} must take n0, n and alpha when it is made")
            raise UserError(f"{name} is of plan {' or '.join(owners)}, not of {word}")
    with option_values():
        plan = kind(**given)
        if kind_of(plan.name) is not kind or type(plan_of_text(str(plan))) is not kind:
            raise ValueError(f"plan {word}: its name or its text are those of another plan")
        check_levels(plan)
    return plan


def check_levels(plan: Plan) -> None:
    """Raises ValueError unless the union bound over the looks holds, whatever the plan's author."""
    looks, levels = plan.looks, plan.levels
    rising = all(one < other for one, other in pairwise((0, *looks)))
    if not (rising and looks[-1:] == (plan.n,) and len(looks) == len(levels)):
        raise ValueError(f"plan {plan.name}: looks must rise to n {plan.n}, each with its level")
    if min(levels) <= 0 or math.fsum(levels) > plan.alpha * (1 + 1e-12):
        raise ValueError(f"plan {plan.name}: its levels must add up to alpha {plan.alpha} at most")
    if levels[-1] != max(levels):
        raise ValueError(f"plan {plan.name}: the last look's level must be the highest")


def kind_of(name: str) -> type[Plan]:
    """The class of plans that have a stored name, or that a stored text begins with.

    A plan of another package must have been imported, as by its word on the command line: what was
    stored chooses no code that is run.

    Raises:
        UserError: nobody knows it.
    """
    for kind in OURS:
        if name in (kind.name, kind.__name__):
            return kind
    if name not in PLANS:
        *module, _ = parts = name.replace(":", ".").split(".")
        if name != f"{'.'.join(module)}:{parts[-1]}" or not all(map(str.isidentifier, parts)):
            raise UserError(f"plan {quoted(name)} is not known")
        if ".".join(module) not in sys.modules:
            raise UserError(
                f"plan {quoted(name)} is of another package, and a file does not choose what is "
                f"run: import {'.'.join(module)} first"
            )
    return _checked(name)


def _checked(word: str) -> type[Plan]:
    kind: object = PLANS[word]
    if not (isinstance(kind, type) and issubclass(kind, Plan) and hasattr(kind, "name")):
        raise UserError(f"plan {quoted(word)} is no diffsmooth.stats.Plan")
    return kind


def plan_of_text(text: object) -> Plan:
    """The plan whose str() a text is.

    Raises:
        ValueError: it is none; nothing is evaluated but numbers and tuples of them.
    """
    name, _, rest = text.partition("(") if isinstance(text, str) else ("", "", "")
    kind, plan = kind_of(name), None
    try:
        call = ast.parse(f"_({rest}", mode="eval").body
        if isinstance(call, ast.Call) and not call.args:
            values = {str(word.arg): ast.literal_eval(word.value) for word in call.keywords}
            plan = kind(**values)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        pass
    if plan is None or str(plan) != text:  # also what parses, but is written otherwise
        raise ValueError(f"plan {quoted(text)} is not known")
    return plan
