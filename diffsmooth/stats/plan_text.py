"""A plan from its word, and from its text, as it stands in a manifest."""

import ast
import importlib.util
import inspect
import sys
from collections.abc import Collection
from typing import Any

from diffsmooth.shown_text import quoted
from diffsmooth.stats.errors import UserError, option_values
from diffsmooth.stats.group_sequential import GroupSequential
from diffsmooth.stats.plan_by_looks import PlanByLooks
from diffsmooth.stats.plans import FixedSampleSize, MajorityVote, Plan
from diffsmooth.stats.registry import Registry

# By the words of --plan.
PLANS: Registry[type[Plan]] = Registry(
    "plan", fixed=FixedSampleSize, group_sequential=GroupSequential
)
DEFAULT_PLAN = "fixed"
OURS: tuple[type[Plan], ...] = (FixedSampleSize, GroupSequential, MajorityVote)
CONTRACT = [name for name in vars(Plan) if not name.startswith("_")]


def make_plan(word: str, **options: Any) -> Plan:
    """The plan that a user asks for.

    Args:
        word: see `PLANS`, or `package.module:name`.
        **options: what the plan is constructed with; None is not given.

    Raises:
        UserError: no such plan, options that it does not have, or out of range.
    """
    kind = PLANS[word]
    _check_contract(word, kind)
    given = {name: value for name, value in options.items() if value is not None}
    for name in given:
        if name not in _options(kind):
            owners = " or ".join(other for other in PLANS if name in _options(PLANS[other]))
            raise UserError(f"{name} is of plan {owners}, not of {word}")
    with option_values():
        plan = kind(**given)
        if kind_of(plan.name) is not kind or type(plan_of_text(str(plan))) is not kind:
            raise ValueError(f"plan {word}: its name or its text are those of another plan")
    return plan


def by_looks(plan: Plan) -> PlanByLooks:
    """The plan, as those take it who estimate what it would cost and give.

    Raises:
        UserError: it is of another kind, of which they know nothing.
    """
    if not isinstance(plan, PlanByLooks):
        raise UserError(f"plan {plan.name}: only what plans by looks would give can be estimated")
    return plan


def kind_of(name: str) -> type[Plan]:
    """The class of plans that have a stored name, or that a stored text begins with.

    A plan of another package must be one that Python finds, or that was imported already: what was
    stored does not choose the folders that code is taken from.

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
        if parts[0] not in sys.modules and importlib.util.find_spec(parts[0]) is None:
            raise UserError(
                f"plan {quoted(name)}: there is no package {parts[0]}; if it is yours, name its "
                "folder in PYTHONPATH"
            )
    _check_contract(name, PLANS[name])
    return PLANS[name]


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


def _options(kind: type[Plan]) -> Collection[str]:
    """What a plan is constructed with."""
    return inspect.signature(kind).parameters


def _check_contract(name: str, kind: object) -> None:
    missing = [member for member in CONTRACT if not hasattr(kind, member)]
    if not isinstance(kind, type) or missing:
        raise UserError(f"plan {quoted(name)} is no class with {', '.join(missing) or 'that name'}")
