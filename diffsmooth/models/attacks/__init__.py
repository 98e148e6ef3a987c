"""Attacks in the l2 ball on a classifier, or on a smoothed one through samples of its noise."""

from diffsmooth.models.attacks.ascent import ascent_l2
from diffsmooth.models.attacks.ddn import ddn_l2
from diffsmooth.models.attacks.gradient_free import gradient_free_l2
from diffsmooth.models.attacks.pgd import pgd_l2
from diffsmooth.models.attacks.smoothed import Method, SmoothedAttack, attack_smoothed

__all__ = [
    "Method",
    "SmoothedAttack",
    "ascent_l2",
    "attack_smoothed",
    "ddn_l2",
    "gradient_free_l2",
    "pgd_l2",
]
