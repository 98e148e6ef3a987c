"""What fixes the results of a run: two runs of the same identity give the same votes."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from diffsmooth.stats.errors import UserError

# Raised whenever the votes of a run may change by our doing, so that no run mixes both.
NUMERICS = 1

# What a field that a stored identity lacks has meant before there was the field. Fields that stand
# neither there nor in the file were not recorded, and are not compared.
BEFORE: Mapping[str, object] = {"numerics": 1}
RETIRED = ("diffsmooth",)  # the package's version stood for the numerics once


@dataclass(frozen=True)
class RunIdentity:
    """Everything that a result depends on; a run is resumed under the same identity only.

    Attributes:
        command: "certify" or "predict", the purpose of the votes.
        dataset, split, data, size: name, split, fingerprint and number of the images.
        content: digest of the selected images as they are stored, and of their labels.
        image_shape: (C, H, W), at which the noise is added.
        class_names: of classes 0, 1, ... in the user's own data; empty for known datasets.
        skip, max: every skip-th image, up to but without index max (-1: all).
        classifier, diffusion: sha256 of the checkpoints; "" where there is none.
        arch, input_layer: of the classifier.
        purifier, convention, steps, runs, pad: name and options; steps and runs are 1 for oneshot.
        sigma, m, sigma_local: the smoothing, [0, 1] pixel units.
        seed, local_seed: of the votes' noise, and of the local noise.
        plan: the plan and its parameters.
        batch: votes a forward pass, the fixed shape.
        threads: of a process, on the CPU.
        precision: float32, tf32 (float32 by TF32 products, on CUDA) or bf16.
        compile: whether the networks were compiled.
        noise_source: the generator of the votes' noise.
        hardware: kind of device that computed.
        torch, numpy: versions.
        numerics: revision of ours, see `NUMERICS`.
    """

    command: Literal["certify", "predict"]
    dataset: str
    split: str
    data: str
    size: int
    content: str
    image_shape: tuple[int, ...]
    class_names: tuple[str, ...]
    skip: int
    max: int
    classifier: str
    diffusion: str
    arch: str
    input_layer: str
    purifier: str
    convention: str
    steps: int
    runs: int
    pad: str
    sigma: float
    m: int
    sigma_local: float
    seed: int
    local_seed: int
    plan: str
    batch: int
    threads: int
    precision: str
    compile: bool
    noise_source: str
    hardware: str
    torch: str
    numpy: str
    numerics: int = NUMERICS

    @property
    def selection(self) -> list[int]:
        """Indices of the images, ascending."""
        stop = self.size if self.max < 0 else min(self.max, self.size)
        return list(range(0, stop, self.skip))

    def stored(self) -> dict[str, Any]:
        """As it stands in a manifest."""
        return json.loads(json.dumps(asdict(self)))

    @classmethod
    def from_stored(cls, stored: Mapping[str, Any]) -> "RunIdentity":
        """The identity of a manifest; what was not recorded is None.

        Raises:
            UserError: not of a version that this one knows.
        """
        names = {field.name for field in fields(cls)}
        problem = unknown_field(stored)
        if problem:
            raise UserError(problem)
        unrecorded = dict.fromkeys(names - stored.keys())
        known = {name: value for name, value in stored.items() if name in names}
        return cls(**{**unrecorded, **BEFORE, **known})

    def difference(self, stored: Mapping[str, Any]) -> str:
        """The first field in which a stored identity differs, in words; "" if none does."""
        for name, mine in self.stored().items():
            if name not in stored and name not in BEFORE:
                continue
            value = stored.get(name, BEFORE.get(name))
            if value != mine or type(value) is not type(mine):
                return f"{name} was {value!r}, is {mine!r}"
        return unknown_field(stored)


def unknown_field(stored: Mapping[str, Any]) -> str:
    """A field of a stored identity that this version of diffsmooth does not know, in words."""
    known = {*(field.name for field in fields(RunIdentity)), *RETIRED}
    strange = sorted(stored.keys() - known)
    return f"{strange[0]} is not known to this version of diffsmooth" if strange else ""
