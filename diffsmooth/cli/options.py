"""The options that `certify` and `predict` share: what is smoothed, and on what it runs."""

import math
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from jsonargparse import ActionYesNo, ArgumentParser

from diffsmooth.lit.outputs import Shard
from diffsmooth.models.engine import IN_FLIGHT
from diffsmooth.models.noise import SourceName
from diffsmooth.models.purifiers import Convention

MULTISTEP_STEPS = 10


@dataclass(frozen=True)
class SmoothingOptions:
    """The options, checked for their ranges; see `add_options` for their meaning."""

    dataset: str
    classifier: str
    sigma: float
    outfile: str
    batch: int
    skip: int
    max: int
    split: str
    alpha: float
    n: int
    m: int
    local_noise_sd: float
    local_seed: int
    seed: int
    purifier: str
    convention: str | None
    steps: int | None
    runs: int | None
    pad: str
    diffusion: str | None
    arch: str | None
    normalize: str
    unsafe_load: bool
    sanity_check: bool
    data_root: str
    noise: SourceName
    precision: str
    compile: bool | Literal["auto"]
    in_flight: int
    threads: int | None
    accelerator: str
    devices: int
    num_nodes: int
    shard: str | None
    logdir: str
    overwrite: bool

    def __post_init__(self) -> None:
        if not 0 < self.sigma < math.inf:
            raise ValueError(f"sigma must be > 0 and finite, got {self.sigma}")
        lowest = {"batch": 1, "skip": 1, "max": -1, "n": 1, "m": 1, "devices": 1, "num_nodes": 1,
                  "steps": 1, "runs": 1, "threads": 1, "in_flight": 1}  # fmt: skip
        for name, bound in lowest.items():
            if getattr(self, name) is not None and getattr(self, name) < bound:
                option = {"n": "N"}.get(name, name)
                raise ValueError(f"{option} must be at least {bound}, got {getattr(self, name)}")
        if not 0 < self.alpha < 1:
            raise ValueError(f"alpha must be in (0, 1), got {self.alpha}")
        if not self.local_noise_sd >= 0:
            raise ValueError(f"local_noise_sd must be >= 0, got {self.local_noise_sd}")
        for name, words in (
            ("purifier", ("oneshot", "multistep", "none")),
            ("convention", get_args(Convention)),
            ("pad", ("none", "reflect")),
            ("noise", get_args(SourceName)),
        ):
            if getattr(self, name) not in (*words, *((None,) if name == "convention" else ())):
                raise ValueError(
                    f"{name} must be {', '.join(words[:-1])} or {words[-1]}, "
                    f"got {getattr(self, name)!r}"
                )

        if self.shard is not None:
            Shard.parse(self.shard)
        # What would not be used is not what its user wanted.
        for name in ("steps", "runs"):
            if getattr(self, name) is not None and self.purifier != "multistep":
                raise ValueError(f"{name} is of purifier multistep, not of {self.purifier}")
        if self.purifier == "none" and (self.convention or self.pad != "none"):
            name = "convention" if self.convention else "pad"
            raise ValueError(f"{name} has no meaning with purifier none")

    @property
    def part(self) -> Shard | None:
        """--shard, parsed."""
        return None if self.shard is None else Shard.parse(self.shard)

    @property
    def processes(self) -> int:
        """Of the whole run, on all machines."""
        return self.devices * self.num_nodes * (self.part.total if self.part else 1)

    @property
    def matching(self) -> Convention:
        """--convention, or the purifier's own."""
        default = "densepure" if self.purifier == "multistep" else "diffsmooth"
        return self.convention or default  # type: ignore[return-value]

    @classmethod
    def from_namespace(cls, namespace: Any) -> "SmoothingOptions":
        """The options among the parser's values."""
        return cls(**{field.name: getattr(namespace, field.name) for field in fields(cls)})


def add_options(parser: ArgumentParser, batch: int, skip: int, n: int) -> None:
    """Adds the shared options, with the command's own defaults."""
    required: tuple[tuple[str, type, str], ...] = (
        ("dataset", str, "fashion_mnist, fashion_mnist_sample (shipped), cifar10, imagenet, an "
         ".npz file (images uint8 N,H,W[,C]; labels), or a folder with one folder a class"),
        ("classifier", str, "checkpoint of the base classifier"),
        ("sigma", float, "noise level, standard deviation in [0, 1] pixel units"),
        ("outfile", str, "table to write; its journal, manifest and figure lie beside it"),
    )  # fmt: skip
    for name, kind, text in required:
        # Both forms share one value: the seed's positional line, and a config with overrides.
        parser.add_argument(name, type=kind, help=text)
        parser.add_argument(f"--{name}", type=kind, help=f"the same as the positional {name}")
    parser.add_argument("--config", action="config", help="YAML file with any of the options")

    add = parser.add_argument
    add("--skip", type=int, default=skip, help="take every skip-th image")
    add("--max", type=int, default=-1, help="stop before this index of the dataset; -1: no stop")
    add("--split", type=str, default="test", help="train or test")
    add("--data_root", type=str, default="data", help="folder of a known dataset")
    add("--n", "--N", dest="n", type=int, default=n, help="votes an image (after N0)")
    add("--alpha", type=float, default=0.001, help="failure probability an image, in (0, 1)")
    add("--batch", type=int, default=batch, help="votes a forward pass")
    add("--m", type=int, default=5, help="local copies a vote")
    add("--local_noise_sd", "--sigma_local", dest="local_noise_sd", type=float, default=0.25,
        help="noise of the local copies, standard deviation in [0, 1] pixel units")  # fmt: skip
    add("--local_seed", type=int, default=42, help="seed of the local copies' fixed noise")
    add("--seed", type=int, default=0, help="seed of the votes' noise")
    add("--purifier", type=str, default="oneshot",
        help="oneshot: one reverse-diffusion jump; multistep: several steps, with a majority "
        "over runs (DensePure); none: plain randomized smoothing")  # fmt: skip
    add("--convention", type=str | None, default=None,
        help="how sigma is matched to a timestep: diffsmooth, carlini or densepure; by default "
        "densepure for multistep and diffsmooth for oneshot")  # fmt: skip
    add("--steps", type=int | None, default=None,
        help=f"of multistep: timesteps a run (default: {MULTISTEP_STEPS})")  # fmt: skip
    add("--runs", type=int | None, default=None, help="of multistep: runs a vote (default: 1)")
    add("--pad", type=str, default="none",
        help="none: the diffusion model sees the images at their own size; reflect: padded to its "
        "own, and cropped again")  # fmt: skip
    add("--diffusion", type=str | None, default=None,
        help="checkpoint of the diffusion model; by default the published file's name in "
        "pretrained_models/, then ours in checkpoints/")  # fmt: skip
    add("--arch", type=str | None, default=None,
        help="the classifier's architecture, where its checkpoint does not say: cifar_resnetD "
        "or a timm name")  # fmt: skip
    add("--normalize", type=str, default="auto",
        help="the classifier's input layer: standard, center, none, or MEAN,STD in [0, 1] pixel "
        "units; auto: the checkpoint's, or else the most accurate under noise")  # fmt: skip
    add("--sanity_check", action=ActionYesNo, default=True,
        help="stop before the votes if accuracy is near chance")  # fmt: skip
    add("--unsafe_load", action=ActionYesNo, default=False,
        help="run code that a checkpoint may hold; only for files that you trust")  # fmt: skip
    add("--noise", type=str, default="numpy",
        help="source of the votes' noise: numpy (the same on every device) or device (made where "
        "the networks run: for GPUs that one CPU core cannot keep up with)")  # fmt: skip
    add("--precision", type=str, default="auto",
        help="float32, tf32 (CUDA), bf16 (layers only), or auto: bf16 where the hardware "
        "has it")  # fmt: skip
    add("--compile", type=bool | Literal["auto"], nargs="?", const=True, default="auto",
        help="compile the networks: true, false, or auto, by the votes ahead")  # fmt: skip
    add("--in_flight", type=int, default=IN_FLIGHT,
        help="images at once on a device, at most; changes no result")  # fmt: skip
    add("--threads", type=int | None, default=None,
        help="CPU threads a process; by default cores / processes on this host")  # fmt: skip
    add("--accelerator", type=str, default="auto", help="Lightning's: auto, cpu, gpu, ...")
    add("--devices", type=int, default=1, help="processes on this host, one a device")
    add("--num_nodes", type=int, default=1, help="hosts")
    add("--shard", type=str | None, default=None,
        help="I/K: do the I-th of K parts of the images (1/K to K/K), beside other processes "
        "with the same OUTFILE; `diffsmooth merge OUTFILE` writes the table")  # fmt: skip
    add("--logdir", type=str, default="logs", help="folder of the TensorBoard events")
    add("--overwrite", action=ActionYesNo, default=False,
        help="replace the files of a different run; the run's own are kept")  # fmt: skip
