"""Floor 0: the guarantee. Bounds, certification plans, certificates, accuracy-radius curves."""

from diffsmooth.stats.bounds import certified_radius, largest_radius, lower_confidence_bound
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
from diffsmooth.stats.prediction import predict_from_counts
from diffsmooth.stats.reanalysis import reanalyse
from diffsmooth.stats.results import ImageRecord, Results

__all__ = [
    "ABSTAIN",
    "Certificate",
    "Envelope",
    "FixedSampleSize",
    "GroupSequential",
    "ImageRecord",
    "Look",
    "MajorityVote",
    "PairedDifference",
    "Plan",
    "PlanRun",
    "Results",
    "Status",
    "average_certified_radius",
    "average_radius_interval",
    "certified_accuracy",
    "certified_accuracy_interval",
    "certified_radius",
    "high_probability_accuracy",
    "holm",
    "largest_radius",
    "lower_confidence_bound",
    "paired_difference",
    "predict_from_counts",
    "reanalyse",
    "upper_envelope",
]
