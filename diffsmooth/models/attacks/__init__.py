"""Attacks in the l2 ball on a classifier, or on a smoothed one through samples of its noise."""

from typing import TYPE_CHECKING

from diffsmooth.lazy_names import lazy_names

if TYPE_CHECKING:
    from diffsmooth.models.attacks.ascent import ascent_l2
    from diffsmooth.models.attacks.ddn import ddn_l2
    from diffsmooth.models.attacks.gradient_free import gradient_free_l2
    from diffsmooth.models.attacks.pgd import pgd_l2
else:
    __getattr__, __dir__, __all__ = lazy_names(
        __name__,
        {
            "diffsmooth.models.attacks.ascent": "ascent_l2",
            "diffsmooth.models.attacks.ddn": "ddn_l2",
            "diffsmooth.models.attacks.gradient_free": "gradient_free_l2",
            "diffsmooth.models.attacks.pgd": "pgd_l2",
        },
    )
