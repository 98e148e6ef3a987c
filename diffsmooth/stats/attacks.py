"""What was done to an image before the smoothed classifier was asked for its class."""

from dataclasses import dataclass

from diffsmooth.stats.certificate import ABSTAIN


@dataclass(frozen=True, kw_only=True)
class Attack:
    """One try on one image of a certified run.

    Attributes:
        image: the image's number in its dataset.
        certified: class that the run certified, ABSTAIN where it abstained.
        radius: its certified radius, l2, in [0, 1] pixel units; 0.0 where it abstained.
        method: "pgd" or "ddn"; "" where the image was left as it is.
        budget: l2 norm that was allowed, in [0, 1] pixel units; 0.0 where it was left.
        factor: budget / radius, where it was given so; else 0.0.
        norm: l2 norm of what was done, rounded up.
    """

    image: int
    certified: int = ABSTAIN
    radius: float = 0.0
    method: str = ""
    budget: float = 0.0
    factor: float = 0.0
    norm: float = 0.0

    @property
    def is_inside(self) -> bool:
        """Whether the image is certified, and the attacked one lies within its radius."""
        return self.certified != ABSTAIN and self.norm < self.radius
