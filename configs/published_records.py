"""What a record of a published training says; see `published_classifiers.py`, `published.py`."""

from dataclasses import dataclass

CIFAR10 = "cifar10"
IMAGENET = "imagenet"
TRAINING_IMAGES = {CIFAR10: 50_000, IMAGENET: 1_281_167}

COHEN = "locuslab/smoothing"
SALMAN = "Hadisalman/smoothing-adversarial"
CONSISTENCY = "jh-jeong/smoothing-consistency"
SMOOTHMIX = "jh-jeong/smoothmix"
MACER = "RuntianZ/macer"


@dataclass(frozen=True)
class Option:
    """One of a method's own numbers: the name that the config gives it, and its value."""

    name: str
    value: float | int | str | bool


@dataclass(frozen=True)
class Classifier:
    """A published training of a base classifier.

    All are SGD of momentum 0.9 without Nesterov's, in float32; the rate is multiplied by 0.1 where
    it falls; images are flipped at random; the last, smaller batch of an epoch is kept.

    Attributes:
        config: name of the file in configs/train/, without .yaml.
        method: class in diffsmooth/lit/training/.
        sigma: level of the training noise, in [0, 1] pixel units.
        input_layer: what the network does first: standard ((x - mean) / std), center (x - mean) or
            none.
        batch: images of a batch of its loader.
        parts: optimiser steps that its loop makes of one, each on batch // parts images.
        noises: noisy copies of an image in a step.
        steps: optimiser steps an epoch.
        falls: epochs, counted from 0, from which on the rate is a tenth of what it was.
        options: the method's own numbers.
        random_scale: crops of random scale, resized to 224 x 224; otherwise shifts by up to 4
            pixels.
        sources: repository, file and command or default that the values are from.
        our_steps, our_precision: the config's, where they are not the published ones.
    """

    config: str
    method: str
    dataset: str
    sigma: float
    arch: str
    input_layer: str
    batch: int
    parts: int
    noises: int
    steps: int
    epochs: int
    learning_rate: float
    falls: tuple[int, ...]
    options: tuple[Option, ...]
    sources: tuple[str, ...]
    weight_decay: float = 1e-4
    random_scale: bool = False
    our_steps: int | None = None
    our_precision: str = "bf16-mixed"

    @property
    def images(self) -> int:
        """Images of an optimiser step."""
        return self.batch // self.parts


@dataclass(frozen=True)
class Diffusion:
    """A published training of a diffusion model: AdamW without decay, batches of one size only.

    Attributes:
        config: name of the file in configs/train/, without .yaml.
        side: edge of the square images, in pixels.
        flags: those of the network and its noise schedule, as the repository's scripts take them.
        batch: images of an optimiser step.
        steps: optimiser steps in all.
        ema: decay of the averaged weights.
        flip: random horizontal flips.
        precision: its network's.
        sources: as of `Classifier`.
        our_precision: the config's, as Lightning names it.
    """

    config: str
    dataset: str
    side: int
    flags: str
    batch: int
    steps: int
    learning_rate: float
    ema: float
    flip: bool
    precision: str
    sources: tuple[str, ...]
    our_precision: str


@dataclass(frozen=True)
class Loop:
    """What a method's published training loop does with a loader's batch of B images."""

    method: str
    source: str
    does: str
