"""What fixes the results of a run: two runs of the same identity give the same votes."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from types import NoneType, UnionType
from typing import Any, Literal, Self, get_args, get_origin, get_type_hints

from diffsmooth.shown_text import quoted
from diffsmooth.stats.errors import UserError

# Raised whenever the votes of a run may change by our doing, so that no run mixes both.
NUMERICS = 1

MOST_IMAGES = 2**53  # nobody has as many

# What a field that a stored identity lacks has meant before there was the field. Fields that stand
# neither here nor in the file were not recorded, and are not compared. See `_before`.
BEFORE: Mapping[str, object] = {
    "numerics": 1, "classifier_set": "", "diffusion_set": "", "indices": [],
    "norms": "", "kernels": "fixed", "attacked": "", "attack": "",
}  # fmt: skip
# Stored only where they are not this.
USUAL: Mapping[str, object] = {
    "indices": [], "norms": "", "kernels": "fixed", "attacked": "", "attack": "",
}  # fmt: skip
EARLIEST_RUN, LOWEST_CLASS = "earliest run", "lowest class"  # the `ties` of now, and of 0.2
RETIRED = ("diffsmooth",)  # the package's version stood for the numerics once


@dataclass(frozen=True, kw_only=True)
class RunIdentity:
    """Everything that a result depends on; a run is resumed under the same identity only.

    What a run chooses itself, where nobody tells it, is open (None) until it is chosen.

    Attributes:
        command: "certify", "predict" or "attack", the purpose of the votes.
        dataset, split, data, size: name, split, fingerprint and number of the images.
        content: digest of the selected images as they are stored, and of their labels.
        image_shape: (C, H, W), at which the noise is added.
        class_names: names of classes 0, 1, ... in the user's own data; empty for known datasets.
        skip, max: every skip-th image, up to but without index max (-1: all).
        indices: of the images, ascending, where these do not say them; stored only then.
        classifier, diffusion: sha256 of the checkpoints; "" where there is none.
        classifier_set, diffusion_set: key of the weights in a checkpoint that holds two sets; ""
            for the set that a file of one set has.
        arch, input_layer: words of the classifier's architecture and input layer.
        purifier, convention, steps, runs, pad: name and options; steps and runs are 1 for oneshot.
        ties: whose answer a vote is where several classes have equally many of its reverse runs;
            "" where it has one run.
        sigma, m, sigma_local: the smoothing, [0, 1] pixel units.
        seed, local_seed: seeds of the votes' noise and of the local noise.
        plan: the plan and its parameters.
        batch: votes a forward pass, the fixed shape.
        threads: number of a process's threads, on the CPU.
        precision: float32, tf32 (float32 by TF32 products, on CUDA) or bf16.
        compile: whether the networks were compiled.
        norms: the kernel of ours, and its revision, that computed the U-Net's group norms; "" where
            PyTorch's did, which is not stored.
        kernels: how CUDA's were chosen, see `Kernels`; "fixed" is not stored.
        noise_source: the generator of the votes' noise.
        hardware: kind of device that computed.
        torch, numpy: versions.
        numerics: revision of ours, see `NUMERICS`.
        attacked: short name of the run that is attacked; "" of other commands. `size` and `skip`
            are then of tries, not of images.
        attack: how, and how hard.
    """

    command: Literal["certify", "predict", "attack"]
    dataset: str
    split: str
    data: str
    size: int
    content: str
    image_shape: tuple[int, ...]
    class_names: tuple[str, ...]
    skip: int
    max: int
    indices: tuple[int, ...] = ()
    classifier: str
    classifier_set: str
    diffusion: str
    diffusion_set: str
    arch: str
    input_layer: str | None = None
    purifier: str
    convention: str
    steps: int
    runs: int
    ties: str
    pad: str
    sigma: float
    m: int
    sigma_local: float
    seed: int
    local_seed: int
    plan: str
    batch: int | None = None
    threads: int | None = None
    precision: str | None = None
    compile: bool | None = None
    norms: str | None = ""
    kernels: Literal["fixed", "timed"] = "fixed"
    noise_source: str | None = None
    hardware: str
    torch: str
    numpy: str
    numerics: int = NUMERICS
    attacked: str = ""
    attack: str = ""

    @property
    def is_from_python(self) -> bool:
        """Whether `diffsmooth.certify` made the run: its network has its input layer in it."""
        return self.input_layer == ""

    @property
    def selection(self) -> Sequence[int]:
        """Indices of the images, ascending."""
        return self.indices or selection_of(self.size, self.skip, self.max)

    def stored(self) -> dict[str, Any]:
        """As it stands in a manifest.

        Raises:
            ValueError: something is still open.
        """
        if self.still_open:
            raise ValueError(f"not chosen yet: {', '.join(self.still_open)}")
        return self.recorded()

    def recorded(self) -> dict[str, Any]:
        """As `stored`, also of a manifest that lacks fields."""
        fields_told = json.loads(json.dumps(asdict(self)))
        for name, usual in USUAL.items():
            if fields_told[name] in (usual, None):
                del fields_told[name]
        return fields_told

    @property
    def still_open(self) -> list[str]:
        """The names of those that are to be chosen yet."""
        kinds = get_type_hints(type(self))
        may_be = [name for name, kind in kinds.items() if NoneType in get_args(kind)]
        return [name for name in may_be if getattr(self, name) is None]

    def adopting(self, stored: Mapping[str, Any]) -> Self:
        """The identity in which what is open is as it is in a stored one."""
        told = {**_before(stored), **stored}
        chosen: dict[str, Any] = {name: told.get(name) for name in self.still_open}
        return replace(self, **chosen)

    @classmethod
    def from_stored(cls, stored: Mapping[str, Any]) -> "RunIdentity":
        """The identity of a manifest; what was not recorded is None.

        Raises:
            UserError: not of a version that this one knows, or a value that no run can have.
        """
        kinds = get_type_hints(cls)
        names = kinds.keys()
        problem = unknown_field(stored)
        if problem:
            raise UserError(problem)
        for name, value in stored.items():
            if name in names and not _is_a(value, kinds[name]):
                raise UserError(f"{name} is {quoted(value)}, which no run can have")
        if None in (stored_selection(stored), stored.get("command")):
            raise UserError("size, skip, max and command must be told")
        unrecorded = dict.fromkeys(names - stored.keys())
        known = {name: value for name, value in stored.items() if name in names}
        return cls(**{**unrecorded, **_before(stored), **known})

    def difference(self, stored: Mapping[str, Any]) -> str:
        """The first field in which a stored identity differs, in words; "" if none does.

        What is open here, or is not told there, differs from nothing.
        """
        before = _before(stored)
        for name, mine in json.loads(json.dumps(asdict(self))).items():
            if mine is None or name not in {*stored, *before}:
                continue
            value = stored.get(name, before.get(name))
            if value != mine or type(value) is not type(mine):
                return f"{name} was {value!r}, is {mine!r}"
        return unknown_field(stored)


def selection_of(size: int, skip: int, largest: int) -> range:
    """Indices of every skip-th of `size` images, up to but without `largest` (-1: all).

    The published loops (`if i == args.max: break`, after the test of skip) give the same where
    `largest` is a multiple of `skip`, and do not stop at any other.
    """
    return range(0, size if largest < 0 else min(largest, size), skip)


def stored_selection(identity: Mapping[str, Any]) -> Sequence[int] | None:
    """Indices of the images of a stored identity, ascending; None where it tells no selection.

    Raises:
        UserError: it tells what is no selection.
    """
    listed = identity.get("indices")
    if listed is not None:
        if not _is_a(listed, tuple[int, ...]) or not listed or listed != sorted(set(listed)):
            raise UserError(f"indices are {quoted(listed)}, which no run can have")
        return listed
    told: list[Any] = [identity.get(name) for name in ("size", "skip", "max")]
    if None in told:
        return None
    size, skip, largest = told
    known = all(type(value) is int and abs(value) < MOST_IMAGES for value in told)
    if not known or size < 1 or skip < 1:
        raise UserError(f"size, skip and max are {quoted(told)}, which no run can have")
    return selection_of(size, skip, largest)


def _is_a(value: object, kind: Any) -> bool:
    """Whether a stored value is of a field's type; tuples are stored as lists."""
    if get_origin(kind) is UnionType:
        kind = get_args(kind)[0]
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if get_origin(kind) is tuple:
        return isinstance(value, list) and all(_is_a(part, get_args(kind)[0]) for part in value)
    return type(value) in ((int, float) if kind is float else (kind,))


def ties_of(runs: int, rule: str = EARLIEST_RUN) -> str:
    """The field `ties` of a run with so many reverse runs a vote: one cannot tie."""
    return rule if runs > 1 else ""


def _before(stored: Mapping[str, Any]) -> Mapping[str, object]:
    """What the fields that a stored identity may lack have meant in it."""
    runs = stored.get("runs")
    return {**BEFORE, "ties": ties_of(runs if type(runs) is int else 1, LOWEST_CLASS)}


def unknown_field(stored: Mapping[str, Any]) -> str:
    """A field of a stored identity that this version of diffsmooth does not know, in words."""
    known = {*(field.name for field in fields(RunIdentity)), *RETIRED}
    strange = sorted(stored.keys() - known)
    return f"{strange[0]} is not known to this version of diffsmooth" if strange else ""
