"""Which weights of a checkpoint file: many hold two sets, as trained and averaged."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from diffsmooth.models.checkpoints.key_names import by_first_level, without_prefix, without_wrappers
from diffsmooth.models.checkpoints.stored_networks import (
    are_alike,
    has_tensors,
    is_averaged,
    is_state_dict,
    networks_in,
    shapes,
)
from diffsmooth.models.words import SetName
from diffsmooth.shown_text import word
from diffsmooth.stats.errors import UserError

# Where the field's files have their weights.
HOLDERS = (
    "state_dict", "model", "net", "network", "model_state_dict", "model_state", "net_state_dict",
    "network_state_dict", "weights", "params", "module", "classifier", "model_weights", "unet",
)  # fmt: skip
BUFFERS = re.compile(r"(^|\.)(running_mean|running_var|num_batches_tracked)$")
SAVE_ONE = "save the one that is meant by itself"
LIGHTNING_RAW = "current_model_state"  # beside it, EMAWeightAveraging's state_dict is the average


class WeightSet(NamedTuple):
    """The weights that were taken.

    Attributes:
        weights: the network's, names without wrappers and common prefix.
        key: where in the file they were, if that is not where a file of one set has them; "" else.
        note: what was taken, in words, where there was a choice; "" else.
    """

    weights: dict[str, Tensor]
    key: str = ""
    note: str = ""


class _Sets(NamedTuple):
    """The two sets of a file, and their places in it; None for one that it has not."""

    raw: dict[str, Tensor] | None = None
    raw_key: str = ""
    averaged: dict[str, Tensor] | None = None
    averaged_key: str = ""


def choose_set(path: Path, content: Any, wanted: SetName | None) -> WeightSet:
    """The weights in a file's content, averaged ones where there are two sets.

    Args:
        content: as read: a state dict, or a mapping that has one or two.
        wanted: takes the other of two sets.

    Raises:
        UserError: no weights, sets that cannot be told apart, or not the wanted one.
    """
    bare = is_state_dict(content)
    sets = _split(path, content, "") if bare else _find(path, content, wanted)
    if sets.raw is None and sets.averaged is None:
        raise UserError(f"{path}: holds no weights that we know how to read{_keys(content)}")
    if wanted == "raw" and (sets.raw is None or not sets.averaged_key):
        only = ", averaged" if sets.raw is None else ""
        raise UserError(f"{path}: --weights raw, but it holds one set of weights{only}")
    if wanted == "ema" and sets.averaged is None:
        raise UserError(f"{path}: --weights ema, but it holds one set of weights, not averaged")
    if wanted == "raw" or sets.averaged is None:
        assert sets.raw is not None
        weights, key = sets.raw, sets.raw_key
    else:
        weights, key = sets.averaged, sets.averaged_key
    note = ""
    if sets.raw is not None and sets.averaged_key:
        note = note_of_two(path, sets.raw_key, sets.averaged_key, wanted)
    elif sets.raw is None:
        note = f"{path}: holds averaged weights ({word(key)})"
    return WeightSet(weights, "" if key in HOLDERS else key, note)


def note_of_two(path: Path, raw: str, averaged: str, wanted: SetName | None) -> str:
    """What to say of a file that holds two sets, under these keys, of which one is taken."""
    return (
        f"{path}: holds two sets of weights, raw ({word(raw)}) and averaged ({word(averaged)}); "
        f"taken: {'raw' if wanted == 'raw' else 'averaged'}"
        + ("" if wanted else ", --weights raw takes the other")
    )


def _find(path: Path, content: Any, wanted: SetName | None) -> _Sets:
    """The sets of a file that holds them under keys."""
    if not isinstance(content, dict):
        return _Sets()
    found = {
        key: _state_dict_at(path, key, value)
        for key, value in content.items()
        if isinstance(key, str) and has_tensors(value)
    }
    known = [key for key in HOLDERS if found.get(key) is not None]
    averaged = [key for key in found if is_averaged(key)]
    if LIGHTNING_RAW in found and "state_dict" in found:
        raw, mean = (
            without_prefix(without_wrappers(found[key] or {}))
            for key in (LIGHTNING_RAW, "state_dict")
        )
        return _Sets(raw, LIGHTNING_RAW, mean, "state_dict")
    if len(known) > 1:
        raise UserError(f"{path}: holds several sets of weights, {', '.join(known)}: {SAVE_ONE}")
    if not known and not averaged:
        return _below(path, content, wanted)
    main = known[0] if known else ""
    sets = _Sets()
    deep: dict[str, dict[str, Tensor]] = {}
    if main:
        weights = found[main]
        assert weights is not None
        sets = _split(path, weights, main)
        others = {k: v for k, v in content.items() if k != main and k not in averaged}
        deep = _refuse_twins(path, main, weights, others)
    if not averaged and not deep:
        return sets
    averaged += deep
    if wanted == "raw" and sets.raw is not None:
        return sets._replace(averaged_key=averaged[0])
    if len(averaged) > 1 or sets.averaged is not None:
        raise UserError(
            f"{path}: holds several sets of averaged weights, {', '.join(map(word, averaged))}: "
            f"{SAVE_ONE}, or take the others by --weights raw"
        )
    key = averaged[0]
    part = _averaged_part(path, key, deep[key] if key in deep else content[key])
    if part is None:
        raise UserError(
            f"{path}: holds averaged weights ({word(key)}) in a form that we do not know: "
            "--weights raw takes the others"
        )
    return _Sets(sets.raw, sets.raw_key, _with_buffers(part, sets.raw), key)


def _below(path: Path, content: dict[str, Any], wanted: SetName | None) -> _Sets:
    """The sets under a key that holds no weights itself, but what does, as {model: {state_dict}}"""
    within = [
        key
        for key in HOLDERS
        if isinstance(content.get(key), dict) and any(networks_in(content[key]))
    ]
    if len(within) != 1:
        return _Sets()
    key = within[0]
    sets = _find(path, content[key], wanted)
    for weights in (sets.raw, sets.averaged):
        if weights is not None:
            others = {k: v for k, v in content.items() if k != key}
            twins = _refuse_twins(path, key, weights, others)
            if twins:
                raise _several(path, key, next(iter(twins)))
    return sets


def _refuse_twins(
    path: Path, main: str, weights: Mapping[str, Tensor], others: Mapping[str, Any]
) -> dict[str, dict[str, Tensor]]:
    """Averaged weights elsewhere in a file, by their places.

    Raises:
        UserError: there are others that could be meant, and are not called averaged.
    """
    alike = {place: w for place, w in networks_in(dict(others)) if are_alike(w, weights)}
    twin = next((place for place in alike if not is_averaged(place)), None)
    if twin is not None:
        raise _several(path, main, twin)
    return alike


def _several(path: Path, main: str, other: str) -> UserError:
    places = f"{main} and {word(other)}"
    return UserError(f"{path}: holds several sets of weights, {places}: {SAVE_ONE}")


def _keys(content: Any) -> str:
    if not isinstance(content, dict) or not content:
        return ""
    quoted = ", ".join(word(str(key)) for key in list(content)[:10])
    return f": its keys are {quoted}{', ...' if len(content) > 10 else ''}"


def _state_dict_at(path: Path, key: str, value: Any) -> dict[str, Tensor] | None:
    """The state dict under a key; None where there is another thing."""
    if is_state_dict(value):
        return value
    if key in HOLDERS and isinstance(value, dict):
        stranger = next((k for k, v in value.items() if not isinstance(v, Tensor)), None)
        if stranger is not None and any(isinstance(v, Tensor) for v in value.values()):
            raise UserError(
                f"{path}: {key} holds {word(str(stranger))}, which is no tensor but a "
                f"{type(value[stranger]).__name__}"
            )
    return None


def _averaged_part(path: Path, key: str, value: Any) -> dict[str, Tensor] | None:
    """The averaged weights under a key, by itself or one level below; None if of another form."""
    if isinstance(value, dict) and not is_state_dict(value):
        inner = {name: v for name, v in value.items() if is_state_dict(v)}
        if len(inner) != 1:
            return None
        value = next(iter(inner.values()))
    if not is_state_dict(value):
        return None
    sets = _split(path, value, key)
    return sets.averaged if sets.averaged is not None else sets.raw


def _split(path: Path, weights: Mapping[str, Tensor], key: str) -> _Sets:
    """The sets of a state dict: one, or two under names such as model. and ema_model."""
    counted = "n_averaged" in weights  # by torch's AveragedModel
    plain = without_wrappers({k: v for k, v in weights.items() if k != "n_averaged"})
    plain = without_prefix(plain)
    if counted:
        return _Sets(None, "", plain, key or "n_averaged")
    groups = {
        name: group
        for name, group in by_first_level(plain).items()
        if set(group) != {""}  # numbers such as a step, beside the sets
    }
    means = [name for name in groups if is_averaged(name)]
    if len(means) == 1:
        others = [name for name in groups if name != means[0]]
        mean = without_prefix(without_wrappers(groups[means[0]]))
        for name in others:
            raw = without_prefix(without_wrappers(groups[name]))
            mean = _with_dots(mean, raw)
            if len(others) == 1 and _with_buffers(mean, raw).keys() == raw.keys():
                return _Sets(raw, name, _with_buffers(mean, raw), means[0])
    if len(groups) == 2:
        (one, first), (other, second) = groups.items()
        if len(first) > 2 and shapes(first) == shapes(second):  # more than a layer each
            raise UserError(
                f"{path}: holds two networks, {word(one)} and {word(other)}: {SAVE_ONE}"
            )
    return _Sets(plain, key)


def _with_dots(mean: dict[str, Tensor], raw: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Averaged weights under the network's names, where their own lack the dots (LitEma)."""
    dotted = {name.replace(".", ""): name for name in raw}
    if not set(dotted) & set(mean) or set(raw) & set(mean):
        return mean
    return {dotted[name]: value for name, value in mean.items() if name in dotted}


def _with_buffers(mean: dict[str, Tensor], raw: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
    """Averaged parameters with the statistics of the trained network, where they have none."""
    missing = {k: v for k, v in (raw or {}).items() if k not in mean and BUFFERS.search(k)}
    return {**mean, **missing}
