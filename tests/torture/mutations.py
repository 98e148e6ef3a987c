"""Files that are changed at random: refused in words, or what is read is true all the same."""

import io
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from starts import Start
from subjects import Place, certify
from tally import Tally

from diffsmooth.models import build_classifier
from diffsmooth.models.checkpoints.formats import read_checkpoint
from diffsmooth.models.checkpoints.weights import CheckpointMetadata, write_checkpoint
from diffsmooth.runs.field_tables import read_table
from diffsmooth.runs.gallery import read_gallery
from diffsmooth.runs.manifest import read_manifest
from diffsmooth.runs.reading import read_run
from diffsmooth.stats.errors import UserError

WORDS = (
    b"0", b"-1", b"1e999", b"nan", b"null", b"true", b"[]", b"{}", b'""', b"9" * 30, b"\x00",
    b"\xff\xfe", b"\n", b"\t", b",", b"{", b"}", b"[" * 50, b"1.5", b"\\u0000", b"\xe2\x80\xae",
)  # fmt: skip


def mutated(content: bytes, chance: random.Random, other: bytes) -> bytes:
    """A file with one to three changes: bits, bytes, words, parts lost, doubled, or of another."""
    changed = bytearray(content)
    for _ in range(chance.choice([1, 1, 1, 2, 3])):
        at = chance.randrange(len(changed) + 1)
        kind = chance.randrange(8)
        end = min(len(changed), at + chance.choice([1, 2, 8, 64, 1024]))
        if kind == 0 and at < len(changed):
            changed[at] ^= 1 << chance.randrange(8)
        elif kind == 1 and at < len(changed):
            changed[at] = chance.randrange(256)
        elif kind == 2:
            changed[at:end] = b""
        elif kind == 3:
            changed[at:at] = changed[at:end]
        elif kind == 4:
            changed[at : min(len(changed), at + chance.choice([0, 1, 5]))] = chance.choice(WORDS)
        elif kind == 5:
            del changed[at:]
        elif kind == 6:
            start = chance.randrange(len(other) + 1)
            changed[at:end] = other[start : start + end - at]
        else:
            lines = bytes(changed).split(b"\n")
            chance.shuffle(lines)
            changed = bytearray(b"\n".join(lines))
    return bytes(changed)


def _campaign(
    place: Place,
    tally: Tally,
    until: float,
    path: Path,
    other: bytes,
    read: Callable[[], Any],
    is_true: Callable[[Any], bool],
) -> None:
    """Reads a file in many changes.

    Args:
        path: the file.
        other: another of its kind.
        read: reads it, and what lies beside it.
        is_true: whether what was read is what the unchanged file says, where it must be.
    """
    chance = random.Random(place.seed)
    content = path.read_bytes()
    while tally.starts < 200 or time.monotonic() < until:
        changed = mutated(content, chance, other)
        path.write_bytes(changed)
        tally.starts += 1
        try:
            found = read()
        except UserError:
            tally.struck += 1
        except Exception as error:
            tally.tracebacks += 1
            tally.note(f"{type(error).__name__}: {error}; {_difference(content, changed)}")
        else:
            if not is_true(found):
                tally.wrong += 1
                tally.note(f"taken, and not true: {_difference(content, changed)}")
    path.write_bytes(content)


def _difference(content: bytes, changed: bytes) -> str:
    same = next((i for i, (a, b) in enumerate(zip(content, changed, strict=False)) if a != b), 0)
    start = max(0, same - 60)
    return f"at {same}: {content[start : same + 40]!r} became {changed[start : same + 40]!r}"


def _run(place: Place, tally: Tally) -> tuple[Path, bytes]:
    """A finished run, and the journal of another of the same images."""
    subject = certify()
    folder, other = place.fresh("run"), place.fresh("other")
    few = [*subject.words(place), "--max", "8"]  # each line's bound is computed anew
    tally.count(Start(few, folder).begin().end(), 0)
    tally.count(Start([*few, "--seed", "1"], other).begin().end(), 0)
    tally.starts = 0
    return folder, other


def _said(run: Any) -> list[tuple[Any, ...]]:
    results = run.results
    return [
        *zip(
            results.index.tolist(), results.label.tolist(), results.prediction.tolist(),
            np.round(results.radius, 6).tolist(), strict=True,
        )
    ]  # fmt: skip


def of_journals(place: Place, tally: Tally, until: float) -> None:
    """Read with their manifests, or refused; what is taken has the votes of the run."""
    folder, other = _run(place, tally)
    path = folder / "o.jsonl"
    truth = read_run(path)
    _campaign(
        place, tally, until, path, (other / "o.jsonl").read_bytes(), lambda: read_run(path),
        lambda run: _said(run) == _said(truth),
    )  # fmt: skip


def of_tables(place: Place, tally: Tally, until: float) -> None:
    """Beside their journal they say what it says; alone they are read or refused."""
    folder, other = _run(place, tally)
    path = folder / "o.txt"
    truth, foreign = _said(read_run(path)), (other / "o.txt").read_bytes()
    halfway = (time.monotonic() + until) / 2
    _campaign(
        place, tally, halfway, path, foreign, lambda: read_run(path),
        lambda run: _said(run) == truth,
    )  # fmt: skip
    alone = place.fresh("alone") / "o.txt"
    alone.write_bytes(path.read_bytes())
    tally.starts -= 200
    _campaign(place, tally, until, alone, foreign, lambda: read_table(alone), lambda _: True)
    tally.starts += 200


def of_manifests(place: Place, tally: Tally, until: float) -> None:
    """Of a run that is taken, the results are those of its journal, and the identity is whole."""
    folder, other = _run(place, tally)
    path = folder / "o.manifest.json"
    truth, identity = _said(read_run(folder / "o.txt")), read_manifest(path).identity  # type: ignore[union-attr]
    foreign = (other / "o.manifest.json").read_bytes()
    _campaign(
        place, tally, until, path, foreign, lambda: read_run(folder / "o.txt"),
        lambda run: _said(run) == truth and run.identity == identity,
    )  # fmt: skip


def of_galleries(place: Place, tally: Tally, until: float) -> None:
    """Pixels are those of the run, or refused."""
    folder, other = _run(place, tally)
    path = folder / "o.images.npz"
    truth = read_gallery(path)

    def same(found: Any) -> bool:
        return len(found) == len(truth) and all(
            np.array_equal(getattr(a, name), getattr(b, name))
            for a, b in zip(found, truth, strict=True)
            for name in ("index", "original", "noisy", "purified", "copies")
        )

    foreign = (other / "o.images.npz").read_bytes()
    _campaign(place, tally, until, path, foreign, lambda: read_gallery(path), same)


def of_checkpoints(place: Place, tally: Tally, until: float) -> None:
    """Weights are those that were written, or refused."""
    path = place.fresh("checkpoints") / "c.pt"
    model = build_classifier("cifar_resnet8", 10, dataset="fashion_mnist")
    metadata = CheckpointMetadata(
        "classifier", "fashion_mnist", arch="cifar_resnet8", input_layer="standard", sigma=0.25
    )
    write_checkpoint(path, metadata, model.state_dict())
    truth = read_checkpoint(path)
    content = io.BytesIO()
    torch.save({"state_dict": truth.state_dict, "x": 1}, content)

    def same(found: Any) -> bool:
        return found.state_dict.keys() == truth.state_dict.keys() and all(
            torch.equal(value, found.state_dict[name]) for name, value in truth.state_dict.items()
        )

    _campaign(place, tally, until, path, content.getvalue(), lambda: read_checkpoint(path), same)
