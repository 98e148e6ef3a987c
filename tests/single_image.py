"""Certificates and predictions of one image, named by its index alone."""

from torch import Tensor

from diffsmooth.models.smoothing.noise import NoiseKey
from diffsmooth.models.smoothing.one_image import run_plan
from diffsmooth.models.smoothing.vote_function import VoteFunction
from diffsmooth.stats import Certificate, MajorityVote, Plan


def certify_image(
    f: VoteFunction, image: Tensor, index: int, plan: Plan, seed: int = 0
) -> Certificate:
    return run_plan(f, image, NoiseKey(seed, "certify", "", "", index), plan)


def predict_image(
    f: VoteFunction, image: Tensor, index: int, n: int, alpha: float, seed: int = 0
) -> int:
    key = NoiseKey(seed, "predict", "", "", index)
    return run_plan(f, image, key, MajorityVote(n, alpha)).prediction
