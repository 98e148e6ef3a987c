"""Which images trained a network, which chose its checkpoint, and which were left: a record.

It stands in a checkpoint beside the metadata, under a key of its own, which readers of version 0.2
pass over. Files of others have none: what trained them is then unknown, and is called so.
"""

import hashlib
import re
from itertools import pairwise
from typing import Any, NamedTuple, Self

import numpy as np

from diffsmooth.shown_text import is_word, quoted
from diffsmooth.stats.errors import UserError
from diffsmooth.stats.printed import counted

IMAGES_KEY = "diffsmooth_images"
CHOSEN_BY = ("validation", "test", "nothing")
PRETRAINED = ("", "same", "other")
MOST_IMAGES = 10**12
MOST_SEED = 2**64


class Split(NamedTuple):
    """Indices of the training split, each list sorted, no index twice.

    Attributes:
        validation: held out, and looked at while the network was trained.
        left_out: held out, and looked at by nothing.
        trained: the rest.
    """

    validation: list[int]
    left_out: list[int]
    trained: list[int]

    @property
    def choice(self) -> str:
        """16 hex digits that tell whether a split that is computed again is the same."""
        parts = (np.array(part, dtype="<i8").tobytes() for part in (self.validation, self.left_out))
        return hashlib.sha256(b"/".join(parts)).hexdigest()[:16]


def split_images(total: int, validation: int, left_out: int, seed: int) -> Split:
    """Splits indices 0 .. total - 1; the validation images do not depend on how many are left out.

    Args:
        total: more than `validation` and `left_out` together.
        validation, left_out: how many, >= 0.
        seed: the choice's, >= 0.
    """
    assert min(validation, left_out) >= 0
    assert validation + left_out < total
    order = np.random.default_rng(seed).permutation(total)
    ends = (0, validation, validation + left_out, total)
    parts = [np.sort(order[a:b]).tolist() for a, b in pairwise(ends)]
    return Split(*parts)


class TrainingImages(NamedTuple):
    """What a checkpoint says of the images of its training.

    Attributes:
        dataset: name of the data set.
        digest: `ImageSet.fingerprint` of its training split, before anything was held out.
        total: number of images in that split.
        validation: how many of them were held out for validation.
        left_out: how many others were held out of everything.
        seed: what both were chosen by, see `split_images`.
        choice: see `Split.choice`.
        chosen_by: by what the checkpoint may have been chosen, where a callback watched a measure
            of the validation: "validation" (images held out), "test" (the test images, where none
            were held out) or "nothing".
        extra, extra_digest, extra_total: name, fingerprint and number of images beyond the data set
            that trained it, too (self-training); "", "" and 0 without.
        pretrained: "" where the training began with random weights; "same" where it began with a
            checkpoint that the same images had trained; "other" where that was trained on others,
            or does not say.
    """

    dataset: str
    digest: str
    total: int
    validation: int
    left_out: int
    seed: int
    choice: str
    chosen_by: str
    extra: str = ""
    extra_digest: str = ""
    extra_total: int = 0
    pretrained: str = ""

    @classmethod
    def from_stored(cls, said: Any) -> Self | None:
        """The record of a file; None if it is of a later version, with fields that we do not know.

        Raises:
            UserError: it can be of no training.
        """
        if not isinstance(said, dict):
            raise UserError("its record of images is no mapping")
        if not said.keys() <= set(cls._fields):
            return None
        lacking = [name for name in cls._fields[:8] if name not in said]
        if lacking:
            raise UserError(f"its record of images lacks {', '.join(lacking)}")
        record = cls(**said)
        record.check()
        return record

    def check(self) -> None:
        """Raises UserError unless each field can be true: they come from a file."""
        for name in ("dataset", "extra"):
            self._check(name, is_word(getattr(self, name)), "a word")
        for name, digits in (("digest", 64), ("choice", 16), ("extra_digest", 64)):
            value = getattr(self, name)
            known = isinstance(value, str) and bool(re.fullmatch(f"[0-9a-f]{{{digits}}}", value))
            none = name == "extra_digest" and value == ""
            self._check(name, known or none, f"{digits} hex digits")
        for name in ("total", "validation", "left_out", "seed", "extra_total"):
            value, most = getattr(self, name), MOST_SEED if name == "seed" else MOST_IMAGES
            known = type(value) is int and 0 <= value <= most
            self._check(name, known, f"a whole number from 0 to {most}")
        for name, words in (("chosen_by", CHOSEN_BY), ("pretrained", PRETRAINED)):
            self._check(name, getattr(self, name) in words, f"one of {words}")
        if self.validation + self.left_out >= self.total:
            raise UserError(
                f"of its {self.total} images {self.validation} and {self.left_out} are said to be "
                "held out, which leaves none"
            )

    def _check(self, name: str, known: bool, wanted: str) -> None:
        if not known:
            given = quoted(getattr(self, name))
            raise UserError(f"{name} of its images is not {wanted}, but {given}")

    @property
    def trained(self) -> int:
        """Number of images of the data set that trained the network."""
        return self.total - self.validation - self.left_out

    def split(self) -> Split | None:
        """Which images are which; None where the choice cannot be computed again as it was.

        NumPy may change its streams: then these indices would not be those of the training.
        """
        split = split_images(self.total, self.validation, self.left_out, self.seed)
        return split if split.choice == self.choice else None

    def same_images(self, other: "TrainingImages | None") -> bool:
        """Whether another network was trained on the same images, and on none that are unknown.

        Nor may it have looked at images, to validate, that are left out of everything here: a seed
        takes the validation images first.
        """
        return (
            other is not None
            and other.pretrained != "other"
            and other.validation <= self.validation
            and self._key() == other._key()
        )

    def _key(self) -> tuple[object, ...]:
        # A seed holds out the same images, be they for validation or left out.
        held_out = self.validation + self.left_out
        return (self.digest, self.total, held_out, self.seed, self.extra_digest)

    def describe(self) -> str:
        """The record in words, on one line."""
        said = [f"trained on {self.trained:,} of the {self.total:,} images of {self.dataset}"]
        if self.validation:
            may = ", which may have chosen this checkpoint" * (self.chosen_by == "validation")
            said.append(f"{self.validation:,} held out for validation{may}")
        if self.left_out:
            said.append(f"{self.left_out:,} left out of everything")
        if self.validation or self.left_out:
            said.append(f"chosen by seed {self.seed}")
        if self.chosen_by == "test":
            said.append("its TEST images may have chosen this checkpoint")
        if self.extra_total:
            said.append(f"and on {counted(self.extra_total, 'image')} of {self.extra}")
        if self.pretrained == "other":
            said.append("begun with a checkpoint of other or unknown images")
        return f"{'; '.join(said)} (training split {self.digest[:12]})"
