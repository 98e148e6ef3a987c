"""The manifests of the runs side by side: what the results depend on, and where they were made."""

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from diffsmooth.runs.reading import Run
from diffsmooth.shown_text import shown


class Field(NamedTuple):
    """One value a run, as text; "" where a run has none."""

    name: str
    values: list[str]
    differs: bool


class ManifestTable(NamedTuple):
    """One part of the manifests; `missing` are the runs without a manifest."""

    title: str
    runs: list[str]
    fields: list[Field]
    missing: list[str]


def manifest_tables(runs: Sequence[Run]) -> list[ManifestTable]:
    """Identity and context."""
    return [
        _table("Identity: what the results depend on", [(r.name, r.identity) for r in runs]),
        _table("Context: where the run was made", [(r.name, r.context) for r in runs]),
    ]


def _table(title: str, parts: list[tuple[str, Mapping[str, object]]]) -> ManifestTable:
    known = [(name, part) for name, part in parts if part]
    fields = []
    for field in dict.fromkeys(key for _, part in known for key in part):
        values = [_text(part[field]) if field in part else "" for _, part in known]
        fields.append(Field(shown(field), values, len(set(values)) > 1))
    missing = [name for name, part in parts if not part]
    return ManifestTable(title, [name for name, _ in known], fields, missing)


def _text(value: object) -> str:
    if isinstance(value, str):
        return shown(value) or '""'
    return shown(json.dumps(value))
