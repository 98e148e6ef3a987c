"""A line of the journal: all that is kept of one image.

Format 2 (`Origin`) says which run and which image a line is of, and carries a checksum. Lines of
format 1, which have none of this, are read as well. Of neither is anything believed that follows
from the votes: it is computed again, and a line that says otherwise is refused.
"""

import hashlib
import json
import math
from dataclasses import asdict
from typing import Any, get_args

from diffsmooth.stats import ImageRecord, Look
from diffsmooth.stats.attacks import Attack
from diffsmooth.stats.certificate import ABSTAIN, NO_CLASS, Certificate, Status
from diffsmooth.stats.reanalysis import recompute
from diffsmooth.stats.results import Origin

FORMAT = 2
LOWEST_COUNTS = {
    "index": 0, "label": 0, "prediction": ABSTAIN, "selected": ABSTAIN,
    "n0": 0, "n": 0, "votes": 0, "max_n": 1, "first_look": 0,
}  # fmt: skip
LARGEST_COUNT = 2**53  # below, float64 holds every one


def to_line(record: ImageRecord) -> str:
    """One line, without its end; of format 1 where the record's origin is not known."""
    fields: dict[str, Any] = {
        "index": record.index,
        "label": record.label,
        "correct": _correct(record),
        "seconds": round(record.seconds, 4),
        **asdict(record.certificate),
        "error": record.error,
    }
    if record.origin is not None:
        fields = {"format": FORMAT, **asdict(record.origin), **fields}
        if record.attack is not None:
            fields["attack"] = asdict(record.attack)
        fields["checksum"] = _checksum(fields)
    return json.dumps(fields, separators=(",", ":"))


def from_line(line: str) -> ImageRecord:
    """The record of a line, its certificate computed again from its votes.

    Raises:
        ValueError: not such a line, or one that says what its votes do not.
    """
    try:
        fields: dict[str, Any] = json.loads(line)
    except (ValueError, RecursionError) as problem:
        raise ValueError(f"not a journal line: {problem}") from problem
    try:
        origin, attack = _take_origin(fields), _take_attack(fields)
        index, label, correct = (fields.pop(name) for name in ("index", "label", "correct"))
        seconds, error = fields.pop("seconds"), str(fields.pop("error"))
        fields.setdefault("first_look", 0)
        _check_numbers({"index": index, "label": label, "seconds": seconds, **fields})
        fields["grid"] = tuple(float(radius) for radius in fields["grid"])
        for name in ("selection_counts", "estimation_counts"):
            fields[name] = tuple((int(k), int(v)) for k, v in fields[name])
        fields["looks"] = tuple(Look(*look) for look in fields["looks"])
        certificate = recompute(Certificate(**fields))
    except (KeyError, TypeError, AttributeError, OverflowError) as problem:
        raise ValueError(f"not a journal line: {problem}") from problem
    record = ImageRecord(index, label, seconds, certificate, error, origin, attack)
    if correct is not _correct(record):
        raise ValueError(f"correct is {correct}, not what label and prediction say")
    if bool(error) != (certificate.status == "failed"):
        raise ValueError(f"status is {certificate.status}, but the error is {error!r}")
    if attack is not None and origin is None:
        raise ValueError("is of an attack, and of format 1, which has none")
    if origin is not None and not origin.image and not error:
        raise ValueError("there are votes, but not the digest of the image that they are of")
    return record


def _correct(record: ImageRecord) -> bool | None:
    """As it stands in a line: None where the label is not known."""
    return None if record.label is None else record.correct


def _take_origin(fields: dict[str, Any]) -> Origin | None:
    """Takes out what format 2 adds."""
    known = fields.pop("format", 1)
    if known == 1:
        return None
    if known != FORMAT:
        raise ValueError(f"is of format {known!r}; this version of diffsmooth reads 1 and {FORMAT}")
    checksum = fields.pop("checksum")
    if checksum != _checksum({"format": known, **fields}):
        raise ValueError("was changed, or damaged: its checksum does not fit")
    shape = tuple(fields.pop("image_shape"))
    words = {name: fields.pop(name) for name in ("identity", "noise_source", "image", "file")}
    if not all(type(side) is int for side in shape):
        raise TypeError(f"image_shape is {shape}")
    if not all(type(word) is str for word in words.values()):
        raise TypeError(f"identity, noise_source, image and file must be text, got {words}")
    return Origin(image_shape=shape, **words)


def _take_attack(fields: dict[str, Any]) -> Attack | None:
    """Takes out what the tries of an attack say."""
    if "attack" not in fields:
        return None
    attack = Attack(**fields.pop("attack"))
    counts = attack.image, attack.certified
    lengths = attack.radius, attack.budget, attack.factor, attack.norm
    if not all(type(count) is int and ABSTAIN <= count < LARGEST_COUNT for count in counts):
        raise ValueError(f"image and certified class of the attack are {counts}")
    if not all(type(length) is float and 0 <= length < math.inf for length in lengths):
        raise ValueError(f"radius, budget, factor and norm of the attack are {lengths}")
    if attack.method not in ("", "pgd", "ddn"):
        raise ValueError(f"method of the attack is {attack.method!r}")
    return attack


def _checksum(fields: dict[str, Any]) -> str:
    """16 hex digits of all that a line says, but for the seconds and itself."""
    said = {name: value for name, value in fields.items() if name not in ("seconds", "checksum")}
    text = json.dumps(said, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _check_numbers(fields: dict[str, Any]) -> None:
    """Raises ValueError for numbers that no run can have written."""
    for name, least in LOWEST_COUNTS.items():
        value = fields[name]
        if name == "label" and value is None:  # not known
            continue
        if type(value) is not int or not least <= value < LARGEST_COUNT:
            raise ValueError(f"{name} is {value!r}, not a whole number from {least} on")
    pairs = {"selection_counts": NO_CLASS, "estimation_counts": NO_CLASS, "looks": 0}
    for name, first in pairs.items():
        for pair in fields[name]:
            sound = (
                type(count) is int and least <= count < LARGEST_COUNT
                for least, count in zip((first, 0), pair, strict=False)
            )
            if len(pair) != 2 or not all(sound):
                raise ValueError(f"{name} holds {pair!r}, not two whole numbers")
    ranges = [
        *((name, fields[name], 0.0, math.inf) for name in ("seconds", "max_radius", "radius")),
        *((name, fields[name], 0.0, 1.0) for name in ("alpha", "p_lower")),
        ("sigma", fields["sigma"], 0.0, math.inf),
        *(("grid", radius, 0.0, math.inf) for radius in fields["grid"]),
    ]
    for name, value, lowest, highest in ranges:
        known = type(value) in (int, float) and math.isfinite(value)
        if not known or not lowest <= value <= highest:
            raise ValueError(f"{name} is {value!r}, not a number in {lowest:g} .. {highest:g}")
    if fields["status"] not in get_args(Status):
        known_words = ", ".join(get_args(Status))
        raise ValueError(f"status is {fields['status']!r}, not of {known_words}")
