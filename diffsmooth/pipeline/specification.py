"""What a command is to do, checked: which networks, on which images, with which votes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, Self, get_args

from diffsmooth.lit.data.picture import ExifChoice
from diffsmooth.models.checkpoints.weight_sets import SetName
from diffsmooth.models.diffusion.openai import Convention
from diffsmooth.models.smoothing.noise import SourceName
from diffsmooth.models.smoothing.purifiers import PURIFIERS, PurifierKind, purifier_kind
from diffsmooth.pipeline.option_checks import check_alpha, check_most, check_noise, check_seed
from diffsmooth.runs.shard import Shard
from diffsmooth.stats.errors import UserError, option_values

OPTIONS_OF_KINDS: dict[str, Callable[[PurifierKind], bool]] = {
    "steps": lambda kind: kind.steps is not None,
    "runs": lambda kind: kind.reverse_runs,
}


@dataclass(frozen=True)
class PurifierOptions:
    """Images and what purifies them, checked; see `add_purifier_options` for their meaning."""

    dataset: str
    data_root: str
    image_size: int | None
    exif: ExifChoice | None
    purifier: str
    convention: str | None
    steps: int | None
    runs: int | None
    pad: str
    diffusion: str | None
    unsafe_load: bool

    def __post_init__(self) -> None:
        self.check_lowest({"steps": 1, "runs": 1, "image_size": 1})
        kind = purifier_kind(self.purifier)
        if self.convention is not None:
            self.check_word("convention", get_args(Convention))
        self.check_word("pad", ("none", "reflect"))
        # What would not be used is not what its user wanted.
        for name, takes in OPTIONS_OF_KINDS.items():
            if getattr(self, name) is not None and not takes(kind):
                owners = [word for word in PURIFIERS if takes(purifier_kind(word))]
                raise UserError(
                    f"{name} is of purifier {' or '.join(owners)}, not of {self.purifier}"
                )
        if not kind.denoiser and (self.convention or self.pad != "none"):
            name = "convention" if self.convention else "pad"
            raise UserError(f"{name} has no meaning with purifier {self.purifier}")

    def check_lowest(self, bounds: Mapping[str, int]) -> None:
        """Raises UserError for an option below its bound; None is not given."""
        for name, bound in bounds.items():
            value = getattr(self, name)
            if value is not None and value < bound:
                option = "N" if name == "n" else name
                raise UserError(f"{option} must be at least {bound}, got {value}")

    def check_word(self, name: str, words: Sequence[str]) -> None:
        """Raises UserError for an option that is none of the words."""
        if getattr(self, name) not in words:
            raise UserError(
                f"{name} must be {', '.join(words[:-1])} or {words[-1]}, "
                f"got {getattr(self, name)!r}"
            )

    @property
    def matching(self) -> Convention:
        """--convention, or the purifier's own."""
        given: Any = self.convention
        return given or purifier_kind(self.purifier).convention

    @classmethod
    def from_namespace(cls, namespace: Any, **others: Any) -> Self:
        """The options among the parser's values, and those that the command sets itself."""
        names = [field.name for field in fields(cls) if field.name not in others]
        return cls(**{name: getattr(namespace, name) for name in names}, **others)


@dataclass(frozen=True)
class VotingOptions(PurifierOptions):
    """And the classifier, and how it votes; see `add_voting_options`."""

    classifier: str
    sigma: float
    n: int
    alpha: float
    batch: int
    local_seed: int
    seed: int
    arch: str | None
    normalize: str
    weights: SetName | None
    sanity_check: bool
    noise: SourceName
    precision: str

    def __post_init__(self) -> None:
        check_noise("sigma", self.sigma)
        self.check_lowest({"batch": 1, "n": 1})
        check_most("batch", self.batch)
        check_most("n", self.n)
        check_alpha("alpha", self.alpha)
        check_seed("local_seed", self.local_seed)
        self.check_word("noise", get_args(SourceName))
        super().__post_init__()


@dataclass(frozen=True)
class SmoothingOptions(VotingOptions):
    """The options, checked for their ranges; see `add_options` for their meaning."""

    outfile: str
    skip: int
    max: int
    split: str
    m: int
    local_noise_sd: float
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
        super().__post_init__()
        self.check_lowest({"skip": 1, "max": -1, "m": 1, "devices": 1, "num_nodes": 1,
                           "threads": 1, "in_flight": 1})  # fmt: skip
        check_noise("local_noise_sd", self.local_noise_sd, zero=True)
        for name in ("m", "threads", "num_nodes", "in_flight"):
            check_most(name, getattr(self, name))
        if self.shard is not None:
            with option_values():
                Shard.parse(self.shard)

    @property
    def part(self) -> Shard | None:
        """--shard, parsed."""
        return None if self.shard is None else Shard.parse(self.shard)

    @property
    def processes(self) -> int:
        """Of the whole run, on all machines."""
        return self.devices * self.num_nodes * (self.part.total if self.part else 1)
