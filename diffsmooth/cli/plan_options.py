"""The options of `certify` that say how many votes an image gets."""

from typing import Any

from jsonargparse import ActionYesNo, ArgumentParser

from diffsmooth.pipeline.option_checks import check_alpha, check_most
from diffsmooth.stats import FixedSampleSize, GroupSequential
from diffsmooth.stats.errors import UserError, option_values

DEFAULTS = GroupSequential()


def add_plan_options(parser: ArgumentParser) -> None:
    """Adds the options; `--N` and `--alpha` are among the shared ones."""
    add = parser.add_argument
    add("--n0", "--N0", dest="n0", type=int, default=100, help="votes that select the class")
    add("--plan", type=str, default="fixed",
        help="fixed: N votes an image; group_sequential: up to N, stopping as soon as every radius "
        "of --radii is decided, with the same guarantee (docs/guarantee.md)")  # fmt: skip
    add("--radii", type=float, nargs="+", default=None,
        help="of group_sequential: the l2 radii that the table shall show, in [0, 1] pixel units; "
        f"default: {' '.join(f'{radius:g}' for radius in DEFAULTS.radii)}")  # fmt: skip
    add("--tolerance", type=float | None, default=None,
        help="of group_sequential: instead of --radii, stop when the radius is at least "
        "1 - TOLERANCE times what N votes would probably give")  # fmt: skip
    add("--label_aware", action=ActionYesNo, default=False,
        help="of group_sequential: stop when the selected class is not the label; such images are "
        "marked skipped, and abstention is not known")  # fmt: skip
    add("--first_look", type=int | None, default=None,
        help="of group_sequential: votes before it may stop "
        f"(default: {DEFAULTS.first_look})")  # fmt: skip


def build_plan(namespace: Any) -> FixedSampleSize | GroupSequential:
    """The plan that the options ask for.

    Raises:
        UserError: out of range, an unknown plan, or options that the plan would not use.
    """
    for name in ("n0", "n"):
        check_most(name, getattr(namespace, name))
    check_alpha("alpha", namespace.alpha)
    own = ("radii", "tolerance", "label_aware", "first_look")
    values = {name: getattr(namespace, name) for name in own}
    given = {name: v for name, v in values.items() if v is not None and v is not False}
    if namespace.plan == "fixed":
        if given:
            name = next(iter(given))
            raise UserError(f"{name} is of plan group_sequential, not of fixed")
        with option_values():
            return FixedSampleSize(namespace.n0, namespace.n, namespace.alpha)
    if namespace.plan != "group_sequential":
        raise UserError(f"plan must be fixed or group_sequential, got {namespace.plan!r}")
    if namespace.radii and namespace.tolerance is not None:
        raise UserError("give radii or tolerance, not both")
    if namespace.radii:
        given["radii"] = tuple(namespace.radii)
    with option_values():
        return GroupSequential(namespace.n0, namespace.n, namespace.alpha, **given)
