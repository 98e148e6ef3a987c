"""The options of `certify` that say how many votes an image gets."""

from typing import Any

from jsonargparse import ActionYesNo, ArgumentParser

from diffsmooth.pipeline.option_checks import check_alpha, check_most
from diffsmooth.stats.errors import UserError
from diffsmooth.stats.group_sequential import GroupSequential
from diffsmooth.stats.plan_words import DEFAULT_PLAN, make_plan
from diffsmooth.stats.plans import Plan

# Parameters of some plans; a plan that has no such parameter refuses the option.
OPTIONS: dict[str, dict[str, Any]] = {
    "radii": {"type": float, "nargs": "+", "default": None,
        "help": "of group_sequential: the l2 radii that the table shall show, in [0, 1] pixel "
        f"units; default: {' '.join(f'{radius:g}' for radius in GroupSequential.radii)}"},
    "tolerance": {"type": float | None, "default": None,
        "help": "of group_sequential: instead of --radii, stop when the radius is at least "
        "1 - TOLERANCE times what N votes would probably give"},
    "label_aware": {"action": ActionYesNo, "default": False,
        "help": "of group_sequential: stop when the selected class is not the label; such images "
        "are marked skipped, and abstention is not known"},
    "first_look": {"type": int | None, "default": None,
        "help": "of group_sequential: votes before it may stop "
        f"(default: {GroupSequential.first_look})"},
}  # fmt: skip


def add_plan_options(parser: ArgumentParser) -> None:
    """Adds the options; `--N` and `--alpha` are among the shared ones."""
    add = parser.add_argument
    add("--n0", "--N0", dest="n0", type=int, default=100, help="votes that select the class")
    add("--plan", type=str, default=DEFAULT_PLAN,
        help="fixed: N votes an image; group_sequential: up to N, stopping as soon as every radius "
        "of --radii is decided, with the same guarantee (docs/guarantee.md); "
        "PACKAGE.MODULE:NAME: a class of your own")  # fmt: skip
    for name, settings in OPTIONS.items():
        add(f"--{name}", **settings)


def build_plan(namespace: Any) -> Plan:
    """The plan that the options ask for.

    Raises:
        UserError: out of range, an unknown plan, or options that the plan would not use.
    """
    for name in ("n0", "n"):
        check_most(name, getattr(namespace, name))
    check_alpha("alpha", namespace.alpha)
    values = {name: getattr(namespace, name) for name in OPTIONS}
    given = {name: None if value is False else value for name, value in values.items()}
    if namespace.radii and namespace.tolerance is not None:
        raise UserError("give radii or tolerance, not both")
    return make_plan(namespace.plan, n0=namespace.n0, n=namespace.n, alpha=namespace.alpha, **given)
