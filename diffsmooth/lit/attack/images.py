"""The images of a certified run, each once as it is and once a try, attacked when it is asked for.

To the rest of a run they are a dataset like any other: its items are tries, image after image.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from typing import NamedTuple

import torch

from diffsmooth.lit.data.images import ImageSet, Sample
from diffsmooth.models.attacks.ball import l2_distance_up, onto_grid
from diffsmooth.models.attacks.smoothed import Method, SmoothedAttack, attack_smoothed
from diffsmooth.models.smoothing.memory import memory_for
from diffsmooth.models.smoothing.noise import NoiseKey
from diffsmooth.models.smoothing.vote_function import VoteFunction
from diffsmooth.stats import ABSTAIN
from diffsmooth.stats.attacks import Attack


class Target(NamedTuple):
    """An image of the attacked run: its number, its certified class and radius."""

    image: int
    certified: int
    radius: float


class Try(NamedTuple):
    """How an image is attacked: within `budget`, or that many times its radius if `relative`."""

    method: Method
    budget: float
    relative: bool

    def epsilon(self, target: Target) -> float:
        """The l2 budget in [0, 1] pixel units; 0.0 of an image without a radius to multiply."""
        return self.budget * target.radius if self.relative else self.budget


class AttackedImages(ImageSet):
    """Item `place * (1 + tries) + number`: an image after its try of that number; 0 is none.

    Args:
        images: of the attacked run.
        targets: which of them.
        tries: on each, at least one.
        how: steps, restarts, noise draws.
        seed, split: of the attack's noise, whose purpose is "attack".
        on_grid: whether the run's noise is exact, and its images stand for rationals.
        to_grid: whether attacked images are moved to the 8-bit grid.

    Attributes:
        f: what is attacked, see `take`.
    """

    def __init__(
        self,
        images: ImageSet,
        targets: Sequence[Target],
        tries: Sequence[Try],
        how: SmoothedAttack,
        seed: int,
        split: str,
        on_grid: bool = False,
        to_grid: bool = False,
    ) -> None:
        self.images, self.targets, self.tries, self.how = images, targets, tries, how
        self.info, self.notes = images.info, images.notes
        self.is_labelled = images.is_labelled
        self.labels = images.labels[[target.image for target in targets]].repeat(self.each)
        self.f: VoteFunction | None = None
        self._seed, self._split = seed, split
        self._on_grid, self._to_grid = on_grid, to_grid
        self._made: dict[int, Attack] = {}

    @property
    def each(self) -> int:
        """Items an image."""
        return 1 + len(self.tries)

    @property
    def selection(self) -> list[int]:
        """All items but for tries without a budget, or without a class to leave."""
        return [i for i in range(len(self)) if i % self.each == 0 or self._can_be_tried(i)]

    def _can_be_tried(self, index: int) -> bool:
        return self.attack_of(index).budget > 0 and self._class_to_leave(index) is not None

    def describe(self) -> str:
        return self.images.describe()

    def label(self, index: int) -> int | None:
        return self.images.label(self._target(index).image)

    def file_name(self, index: int) -> str:
        return self.images.file_name(self._target(index).image)

    def take(self, f: VoteFunction) -> None:
        """Keeps a copy of f, on its device, for the gradients: as it is before it is prepared."""
        with torch.inference_mode(False):
            self.f = deepcopy(f).requires_grad_(False)

    def attack_of(self, index: int) -> Attack:
        """What an item is; with its norm once it has been made here."""
        if index in self._made:
            return self._made[index]
        target, number = self._target(index), index % self.each
        attack = Attack(image=target.image, certified=target.certified, radius=target.radius)
        if not number:
            return attack
        how = self.tries[number - 1]
        factor = how.budget if how.relative else 0.0
        return replace(attack, method=how.method, budget=how.epsilon(target), factor=factor)

    def __getitem__(self, index: int) -> Sample:
        """The attacked image.

        Raises:
            OutOfMemory: the forward passes with gradients do not fit.
        """
        sample = self.images[self._target(index).image]
        attack, label = self.attack_of(index), self._class_to_leave(index)
        image = attacked = sample.image
        if attack.method:
            assert self.f is not None
            assert label is not None
            key = NoiseKey(self._seed, "attack", self.info.name, self._split, index)
            method, epsilon = self.tries[index % self.each - 1].method, attack.budget
            # Lightning predicts without gradients.
            with torch.inference_mode(False), torch.enable_grad(), memory_for(self.how.rows):
                image = image.clone()  # one that was made in inference mode takes no part in them
                arguments = (self.f, image, label, method, epsilon, self.how, key, self._on_grid)
                attacked = attack_smoothed(*arguments)
            if self._to_grid:
                attacked = onto_grid(image, attacked, epsilon)
        norm = l2_distance_up(image, attacked, self._on_grid)
        self._made[index] = replace(attack, norm=norm)
        return Sample(attacked, int(self.labels[index]), index)

    def _target(self, index: int) -> Target:
        return self.targets[index // self.each]

    def _class_to_leave(self, index: int) -> int | None:
        """The certified class; of an image without one, its label, None if that is not known."""
        certified = self._target(index).certified
        return self.label(index) if certified == ABSTAIN else certified
