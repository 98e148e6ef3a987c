"""Floor 0: the guarantee. Bounds, certification plans, certificates, accuracy-radius curves."""

from typing import TYPE_CHECKING

from diffsmooth.lazy_names import lazy_names

if TYPE_CHECKING:
    from diffsmooth.stats.bounds import (
        certified_radius,
        largest_radius,
        lower_confidence_bound,
        predict_from_counts,
    )
    from diffsmooth.stats.certificate import ABSTAIN, Certificate, Look, Status
    from diffsmooth.stats.comparison import (
        Envelope,
        PairedDifference,
        average_radius_interval,
        holm,
        paired_difference,
        upper_envelope,
    )
    from diffsmooth.stats.curves import (
        average_certified_radius,
        certified_accuracy,
        certified_accuracy_interval,
        high_probability_accuracy,
    )
    from diffsmooth.stats.group_sequential import GroupSequential
    from diffsmooth.stats.plans import FixedSampleSize, MajorityVote, Plan, PlanRun
    from diffsmooth.stats.reanalysis import reanalyse
    from diffsmooth.stats.results import ImageRecord, Results
else:
    __getattr__, __dir__, __all__ = lazy_names(__name__, __file__)
