"""A plan's class from its word or its stored name, and a plan from its text, as in manifests."""

import ast
import sys

from diffsmooth.shown_text import quoted
from diffsmooth.stats.errors import UserError
from diffsmooth.stats.group_sequential import GroupSequential
from diffsmooth.stats.plans import FixedSampleSize, MajorityVote, Plan
from diffsmooth.stats.registry import Registry

# By the words of --plan.
PLANS: Registry[type[Plan]] = Registry(
    "plan", fixed=FixedSampleSize, group_sequential=GroupSequential
)
DEFAULT_PLAN = "fixed"
OURS: tuple[type[Plan], ...] = (FixedSampleSize, GroupSequential, MajorityVote)


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
    return plan_class(name)


def plan_class(word: str) -> type[Plan]:
    """The class of plans that a user's word stands for, see `PLANS`.

    Raises:
        UserError: there is none.
    """
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
