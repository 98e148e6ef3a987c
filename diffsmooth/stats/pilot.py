"""What a pilot run tells of images like its own: the shares of votes that classes get."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from diffsmooth.stats.bounds import largest_radius, votes_to_reach
from diffsmooth.stats.certificate import Certificate
from diffsmooth.stats.errors import UserError
from diffsmooth.stats.plans import Plan

# Of log a, log b and a third of the logit of the certain part. Near 1 the shares of losses, which
# the votes do show, have the relative width of b alone, and their mean is b / a.
LARGEST = np.array([13.0, 7.0, 7.0])
STARTS = (1.0, 0.0, -0.3), (9.0, 0.0, -2.0)  # shares of all sizes; all near 1


class PilotImage(NamedTuple):
    """What the votes for one image were.

    Attributes:
        n: votes that tell the share of the selected class: the estimation's, or the selection's
            where there are no others (images that a label-aware plan skipped).
        successes: number of these for the selected class.
        selected: class.
        others: (class, votes) of the other classes, of all votes.
        label: true class, or None where not known.
    """

    n: int
    successes: int
    selected: int
    others: tuple[tuple[int, int], ...]
    label: int | None


def pilot_images(
    certificates: Iterable[Certificate], labels: Sequence[int | None]
) -> list[PilotImage]:
    """The images of a pilot that have votes.

    Args:
        certificates: (M,), of one run.
        labels: (M,), true classes.

    Raises:
        UserError: none has estimation votes.
    """
    images, estimated = [], False
    for certificate, label in zip(certificates, labels, strict=True):
        selection = dict(certificate.selection_counts)
        estimation = dict(certificate.estimation_counts)
        estimated |= bool(estimation)
        telling = estimation or selection
        if not telling:
            continue
        selected = certificate.selected
        classes = sorted({*selection, *estimation} - {selected})
        others = tuple((k, selection.get(k, 0) + estimation.get(k, 0)) for k in classes)
        n = sum(telling.values())
        images.append(PilotImage(n, telling.get(selected, 0), selected, others, label))
    if not estimated:
        raise UserError("the pilot has no estimation votes")
    return images


class ShareModel(NamedTuple):
    """Shares of images: all votes for some, a Beta distribution's for the rest.

    A unanimous image of 1,000 votes may have a share of 0.999 or of 1, which differ much in what
    they cost; how many have which, all images of the pilot tell together.

    Attributes:
        a, b: parameters of the Beta distribution.
        certain: part of the images whose share is 1.
    """

    a: float
    b: float
    certain: float

    def draw(self, images: list[PilotImage], copies: int, rng: np.random.Generator) -> np.ndarray:
        """Shares of images (M,) given their votes; float64 (M, copies)."""
        from scipy.special import betaln  # slow: not for help and mistakes

        n, successes = _votes(images)
        shares = rng.beta(
            (successes + self.a)[:, None], (n - successes + self.b)[:, None], (len(n), copies)
        )
        unanimous = np.exp(betaln(n + self.a, self.b) - betaln(self.a, self.b))
        certain = np.where(successes == n, self.certain, 0.0)
        with np.errstate(invalid="ignore"):  # 0 / 0: no certain ones, none that are not
            certain = np.nan_to_num(certain / (certain + (1 - self.certain) * unanimous))
        return np.where(rng.random(shares.shape) < certain[:, None], 1.0, shares)


def fit_shares(images: list[PilotImage]) -> ShareModel:
    """The model of the largest likelihood.

    Source: empirical Bayes; Robbins 1956. The Beta-binomial distribution is Skellam's, 1948.
    """
    from scipy.optimize import minimize  # slow: not for help and mistakes
    from scipy.special import betaln, expit

    pairs, weights = np.unique(np.stack(_votes(images)), axis=1, return_counts=True)
    n, successes = pairs
    unanimous = successes == n

    def surprise(parameters: np.ndarray) -> float:
        within = np.clip(parameters, -LARGEST, LARGEST)
        log_a, log_b, logit = within
        a, b = np.exp(log_a), np.exp(log_b)
        spread = betaln(successes + a, n - successes + b) - betaln(a, b)
        spread -= np.logaddexp(0.0, 3 * logit)
        certain = -np.logaddexp(0.0, -3 * logit)
        total = np.where(unanimous, np.logaddexp(certain, spread), spread)
        # Beyond the limits it rises, or the search would not come back.
        beyond = np.square(parameters - within).sum()
        return float(beyond - weights @ total)

    found = [
        minimize(
            surprise,
            start,
            method="Nelder-Mead",
            options={"maxiter": 600, "initial_simplex": np.add(start, [[0] * 3, *np.eye(3)])},
        )
        for start in STARTS
    ]
    best = min(found, key=lambda result: result.fun)
    log_a, log_b, logit = np.clip(best.x, -LARGEST, LARGEST)
    return ShareModel(float(np.exp(log_a)), float(np.exp(log_b)), float(expit(3 * logit)))


def _votes(images: list[PilotImage]) -> tuple[np.ndarray, np.ndarray]:
    """n and successes, int64 (M,) each."""
    n, successes = zip(*((image.n, image.successes) for image in images), strict=True)
    return np.array(n, dtype=np.int64), np.array(successes, dtype=np.int64)


def select(
    image: PilotImage, shares: np.ndarray, n0: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The class that n0 votes select, int64 (copies,), and its share, float64 (copies,).

    Args:
        image: an image of the pilot.
        shares: float64 (copies,), of the class that the pilot selected; the rest is the others', in
            the proportion of their votes (one's that no one knows, -1, if they have none).
        n0: selection votes.
        rng: their generator.
    """
    others = image.others or ((-1, 1),)
    classes = np.array([image.selected, *(k for k, _ in others)])
    counts = np.array([votes for _, votes in others], dtype=np.float64)
    of_all = np.empty((len(shares), len(classes)))
    of_all[:, 0] = shares
    of_all[:, 1:] = (1 - shares)[:, None] * (counts / counts.sum())
    order = np.argsort(classes)  # of several with as many votes, the first class is selected
    places = rng.multinomial(n0, of_all[:, order]).argmax(axis=1)
    return classes[order][places], of_all[np.arange(len(shares)), order[places]]


class Unresolved(NamedTuple):
    """Unanimous images of the pilot whose shares lie nobody knows where above the plan's needs.

    Attributes:
        images: how many.
        radius: the largest that the plan decides; l2, in [0, 1] pixel units.
        known: the largest that their votes can tell.
        n: votes of a pilot that would tell.
    """

    images: int
    radius: float
    known: float
    n: float


def unresolved(images: list[PilotImage], plan: Plan, sigma: float) -> Unresolved | None:
    """Whether the pilot has too few votes for the largest radius that a plan decides."""
    if plan.stopping_rule(sigma, 0) is None:
        return None  # it costs what it costs
    asked = plan.nothing(sigma)
    reach, tolerance = asked.max_radius, asked.tolerance
    within = [radius for radius in asked.grid if radius <= reach]  # others are futile at once
    radius = (1 - tolerance) * reach if tolerance is not None else max(within, default=0)
    known = [
        largest_radius(sigma, image.n, plan.alpha)
        for image in images
        if image.successes == image.n and not (plan.label_aware and image.selected != image.label)
    ]
    short = [of_image for of_image in known if of_image < radius]
    if not short:
        return None
    return Unresolved(len(short), radius, min(short), votes_to_reach(radius, sigma, plan.alpha))
