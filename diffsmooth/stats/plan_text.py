"""A plan from its text, as it stands in a manifest."""

import ast

from diffsmooth.shown_text import quoted
from diffsmooth.stats.group_sequential import GroupSequential
from diffsmooth.stats.plans import FixedSampleSize, MajorityVote, Plan

PLANS = {plan.__name__: plan for plan in (FixedSampleSize, GroupSequential, MajorityVote)}


def plan_of_text(text: object) -> Plan:
    """The plan whose str() a text is.

    Raises:
        ValueError: it is none; nothing is evaluated but numbers and tuples of them.
    """
    plan = None
    try:
        call = ast.parse(text, mode="eval").body  # type: ignore[call-overload]
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name):
            values = {str(word.arg): ast.literal_eval(word.value) for word in call.keywords}
            plan = PLANS[call.func.id](**values)
    except (ValueError, TypeError, SyntaxError, KeyError, RecursionError, MemoryError):
        pass
    if plan is None or str(plan) != text:  # also what parses, but is written otherwise
        raise ValueError(f"plan {quoted(text)} is not known")
    return plan
