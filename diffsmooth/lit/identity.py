"""What fixes the results of a run: two runs of the same identity give the same votes."""

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import torch

from diffsmooth import __version__
from diffsmooth.models.noise import Purpose

# What a field means that an older version's manifest does not have.
ABSENT = {"classifier_set": "", "diffusion_set": ""}


@dataclass(frozen=True)
class RunIdentity:
    """Everything that a result depends on; a run is resumed under the same identity only.

    Attributes:
        command: "certify" or "predict", the purpose of the votes.
        dataset, split, data, size: name, split, fingerprint and number of the images.
        skip, max: every skip-th image, up to but without index max (-1: all).
        classifier, diffusion: sha256 of the checkpoints; "" where there is none.
        classifier_set, diffusion_set: key of the weights in a checkpoint that holds two sets; ""
            for the set that a file of one set has.
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
        diffsmooth, torch, numpy: versions.
    """

    command: Purpose
    dataset: str
    split: str
    data: str
    size: int
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
    classifier_set: str = ""
    diffusion_set: str = ""
    diffsmooth: str = __version__
    torch: str = torch.__version__
    numpy: str = np.__version__

    @property
    def selection(self) -> list[int]:
        """Indices of the images, ascending."""
        stop = self.size if self.max < 0 else min(self.max, self.size)
        return list(range(0, stop, self.skip))

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2)

    def digest(self) -> str:
        """A short name of the identity, the same as before a field existed where it is absent."""
        told = {k: v for k, v in asdict(self).items() if k not in ABSENT or v != ABSENT[k]}
        return hashlib.sha256(json.dumps(told, indent=2).encode()).hexdigest()[:16]

    def difference(self, other: dict[str, object]) -> str:
        """The first field in which a stored identity differs, in words; "" if none does."""
        mine = asdict(self)
        for field in fields(self):
            if other.get(field.name, ABSENT.get(field.name)) != mine[field.name]:
                return f"{field.name} was {other.get(field.name)!r}, is {mine[field.name]!r}"
        return ""


def file_sha256(path: Path | str) -> str:
    """Hex digest of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hardware_name(device: torch.device) -> str:
    """What computes: kernels, and so the last bits, differ between kinds of hardware."""
    if device.type == "cuda":
        return f"cuda {torch.cuda.get_device_name(device)}"
    if device.type == "cpu":
        flags = [
            flag for flag in ("avx512_bf16", "amx_bf16") if torch.cpu.get_capabilities().get(flag)
        ]
        return " ".join(["cpu", torch.backends.cpu.get_cpu_capability(), *flags])
    return device.type
