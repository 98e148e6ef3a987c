"""One image alone, as `VoteEngine` certifies many."""

from torch import Tensor

from diffsmooth.models.smoothing.engine import VoteEngine
from diffsmooth.models.smoothing.noise import NoiseKey, NoiseSource
from diffsmooth.models.smoothing.packing import Task
from diffsmooth.models.smoothing.vote_function import VoteFunction
from diffsmooth.stats import Certificate, Plan


def run_plan(
    f: VoteFunction,
    image: Tensor,
    key: NoiseKey,
    plan: Plan,
    label: int | None = None,
    noise: NoiseSource | None = None,
) -> Certificate:
    """Drives a plan to its certificate.

    Args:
        f: what votes.
        image, key, label: see `Task`.
        plan: how many votes to ask for.
        noise: see `VoteEngine`.

    Raises:
        ValueError: an image that is not finite or leaves [0, 1], or outputs that are not finite.
    """
    with VoteEngine(f, plan, noise) as engine:
        engine.submit(Task(image, key, label))
        (finished,) = engine.drain()
    if finished.error is not None:
        raise finished.error
    assert finished.certificate is not None
    return finished.certificate
