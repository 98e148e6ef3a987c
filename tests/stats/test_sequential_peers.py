"""The study's plans against their definitions, by enumeration and exact sums."""

import math
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import sequential_peers as peers
from beside_peers import images_of_table, play_all, select_all, share_of_label, told
from power import sequential_power
from scipy.optimize import brentq
from scipy.special import betaincinv, ndtr
from scipy.stats import binom
from sequential_peers import CERTIFIED, GIVEN_UP, UNDECIDED, Stage, Stages

from diffsmooth.stats import certified_radius, lower_confidence_bound
from diffsmooth.stats.pilot import PilotImage

SEQUENCES = list(product((0, 1), repeat=10))
SIGMA = 0.5


def stop(stage: Stage, votes: tuple[int, ...]) -> tuple[int, int]:
    """Outcome, and number of votes then, of one sequence."""
    for n, give_up, certify in zip(*(column.tolist() for column in stage), strict=True):
        s = sum(votes[:n])
        if s >= certify or s <= give_up:
            return (CERTIFIED if s >= certify else GIVEN_UP), n
    return UNDECIDED, n


def by_algorithm_1(votes: tuple[int, ...], p: float, alpha: float, beta: float) -> tuple[int, int]:
    """Voracek's union bound vote by vote, by its intervals; looks and levels of C.2."""
    power, t, successes = 11, 0, 0
    for n, vote in enumerate(votes, 1):
        successes += vote
        if n < 2 or not n > 1.1**power:
            continue
        power, t = power + 1, t + 1
        level = 5 / ((t + 4) * (t + 5))
        low = betaincinv(successes, n - successes + 1, level * alpha) if successes else 0.0
        high = betaincinv(successes + 1, n - successes, 1 - level * beta) if successes < n else 1.0
        if low >= p:
            return CERTIFIED, n
        if high < p:
            return GIVEN_UP, n
    return UNDECIDED, n


def by_algorithm_2(votes: tuple[int, ...], p: float, alpha: float, beta: float) -> tuple[int, int]:
    """Voracek's betting vote by vote: the interval of all shares that are not ruled out."""
    log_q, successes = 0.0, 0
    for n, vote in enumerate(votes, 1):
        estimate = (successes + 0.5) / n
        log_q += math.log(estimate if vote else 1 - estimate)
        successes += vote

        def short(
            share: float, level: float, q: float = log_q, s: int = successes, n: int = n
        ) -> float:
            return q - s * math.log(share) - (n - s) * math.log(1 - share) + math.log(level)

        mean = min(max(successes / n, 1e-12), 1 - 1e-12)
        tiny = 1e-300
        low = brentq(short, tiny, mean, (alpha,)) if successes and short(tiny, alpha) > 0 else 0.0
        top = 1 - 2.0**-53
        high = brentq(short, mean, top, (beta,)) if successes < n and short(top, beta) > 0 else 1.0
        if low >= p:
            return CERTIFIED, n
        if high <= p:
            return GIVEN_UP, n
    return UNDECIDED, n


@pytest.mark.parametrize("p", [0.35, 0.62])
@pytest.mark.parametrize(
    ("plan", "definition"),
    [(peers.union_bound, by_algorithm_1), (peers.betting, by_algorithm_2)],
)
def test_every_sequence_is_decided_as_by_the_algorithm(
    plan: Callable[..., Stages], definition: Callable[..., tuple[int, int]], p: float
) -> None:
    (stage,) = plan(p, 10, 0.4, 0.6)
    seen = set()
    for votes in SEQUENCES:
        outcome, n = definition(votes, p, 0.4, 0.6)
        ours, at = stop(stage, votes)
        assert (ours, at <= n) == (outcome, True)
        # Sooner only where every continuation comes to the same.
        assert at == n or all(definition((*votes[:at], *rest), p, 0.4, 0.6)[0] == ours
                              for rest in product((0, 1), repeat=10 - at))  # fmt: skip
        seen.add(ours)
    assert seen == {CERTIFIED, GIVEN_UP, UNDECIDED}


def test_the_looks_of_the_union_bound_share_alpha() -> None:
    p, alpha = 0.8, 0.01
    (stage,) = peers.union_bound(p, 100_000, alpha, alpha)
    changes = np.flatnonzero(np.diff(stage.certify)) + 1  # a threshold's last vote is its look
    looks = stage.n[changes - 1]
    looks = looks[stage.certify[changes - 1] <= looks]
    spent = binom.sf(stage.certify[looks - 1] - 1, looks, p)
    assert alpha / 20 < spent.sum() < alpha
    ratios = looks[1:] / looks[:-1]
    assert ratios[looks[1:] > 1000] == pytest.approx(1.1, abs=2e-3)


@pytest.mark.parametrize("n", [1, 7, 60, 1000])
@pytest.mark.parametrize("level", [1e-6, 0.001, 0.3])
def test_thresholds_are_those_of_the_bound(n: int, level: float) -> None:
    for p in (0.1, 0.5, 0.6915, 0.84, 0.999):
        s = int(peers.at_least(np.array(n), p, np.array(level)))
        assert s == n + 1 or betaincinv(s, n - s + 1, level) >= p
        assert s == 0 or s == 1 or betaincinv(s - 1, n - s + 2, level) < p
    assert peers.at_least(np.array(n), 0.5, np.array(0.0)) == n + 1


@pytest.mark.parametrize("p", [0.2, 0.69, 0.95])
def test_the_capital_is_a_martingale(p: float) -> None:
    for n in range(40):
        s = np.arange(n + 1)
        now = np.exp(peers.log_capital(s, np.array(n), p))
        lost, won = (np.exp(peers.log_capital(s + one, np.array(n + 1), p)) for one in (0, 1))
        assert p * won + (1 - p) * lost == pytest.approx(now, rel=1e-12)
        assert binom.pmf(s, n, p) @ now == pytest.approx(1, rel=1e-12)


PLANS: dict[str, Stages] = {
    "fixed": peers.fixed(0.7, 10, 0.2),
    "kept": peers.adaptive_kept((3, 3, 4), 0.7, 0.2, 0.3),
    "union bound": peers.union_bound(0.7, 10, 0.6, 0.6),
    "betting": peers.betting(0.7, 10, 0.4, 0.5),
}


@pytest.mark.parametrize("name", PLANS)
def test_stopping_points_are_those_of_all_sequences(name: str) -> None:
    (stage,) = PLANS[name]
    points = peers.stopping_points(stage, 0.7)
    ways: dict[tuple[int, int, int], float] = {}
    for votes in SEQUENCES:
        outcome, n = stop(stage, votes)
        key = outcome, n, sum(votes[:n])
        ways[key] = ways.get(key, 0) + 2.0 ** (n - 10)
    keys = zip(*(c.tolist() for c in (points.outcome, points.n, points.successes)), strict=True)
    found = dict(zip(keys, np.exp(points.log_ways).tolist(), strict=True))
    assert {key: count for key, count in found.items() if count > 1e-9} == pytest.approx(ways)
    for share in (0.0, 0.3, 0.7, 0.99, 1.0):
        chance = {k: w * share ** k[2] * (1 - share) ** (k[1] - k[2]) for k, w in ways.items()}
        of_plan = peers.power([points], 5, share)
        assert of_plan.votes == pytest.approx(5 + sum(c * k[1] for k, c in chance.items()))
        assert of_plan.certified == pytest.approx(
            sum(c for k, c in chance.items() if k[0] == CERTIFIED)
        )


def overstated(stages: Stages, p: float, share: float) -> peers.Power:
    return peers.power([peers.stopping_points(stage, p) for stage in stages], 0, share)


@pytest.mark.parametrize("p", [0.6, 0.6915, 0.95])
def test_no_plan_errs_more_than_it_may(p: float) -> None:
    """Certified below p with alpha at most, given up from p on with beta at most."""
    n, alpha, beta, sizes = 300, 0.05, 0.1, (20, 80, 200)
    ours = peers.OursGivingUp(n0=1, n=n, alpha=alpha, radii=(0.0,), first_look=10, giving_up=beta)
    found = {
        "adaptive": peers.adaptive(sizes, p, alpha, beta),
        "kept": peers.adaptive_kept(sizes, p, alpha, beta),
        "union bound": peers.union_bound(p, n, alpha, beta),
        "betting": peers.betting(p, n, alpha, beta),
        "ours at p_r": peers.group_sequential_at(p, ours),
    }
    for name, stages in found.items():
        at = overstated(stages, p, p)
        assert alpha / 400 < at.certified <= alpha, name
        assert beta / 40 < at.given_up <= beta, name
        assert all(overstated(stages, p, q).certified <= at.certified for q in (0.3, p - 0.05))
        assert all(overstated(stages, p, q).given_up <= at.given_up for q in (p + 0.02, 1.0))
    # The same sum finds looks without a correction.
    assert overstated((peers.at_looks(range(10, n), p, alpha, 0.0),), p, p).certified > 2 * alpha


def test_phases_without_memory_multiply() -> None:
    p, share, sizes, alpha, beta = 0.7, 0.75, (30, 60), 0.1, 0.2
    reached, certified, votes = 1.0, 0.0, 0.0
    for n, give_up_level in zip(sizes, (beta, 0.0), strict=True):
        s = np.arange(n + 1)
        chance = binom.pmf(s, n, share)
        wins = np.array([lower_confidence_bound(int(k), n, alpha / 2) >= p for k in s])
        ends = binom.cdf(s, n, p) <= give_up_level
        certified += reached * chance[wins].sum()
        votes += reached * (10 + n)
        reached *= chance[~wins & ~ends].sum()
    stages = peers.adaptive(sizes, p, alpha, beta)
    points = [peers.stopping_points(stage, p) for stage in stages]
    assert peers.power(points, 10, share)[:2] == pytest.approx((votes, certified))
    image = PilotImage(4, 3, 1, ((2, 1),), 1)
    runs = play_all(points, [told([image], 40_000)] * 2, np.random.default_rng(0))
    without_selection = peers.power(points, 0, share).votes
    assert runs.votes.mean() == pytest.approx(without_selection, abs=0.5)
    assert runs.accuracy.mean() == pytest.approx(certified, abs=0.01)


def test_runs_count_what_the_selection_chose() -> None:
    images = [PilotImage(10, 7, 1, ((2, 3),), 2), PilotImage(10, 10, 4, (), 4)]
    rng = np.random.default_rng(0)
    selections = select_all(images, 20_000, rng)
    chosen = binom.sf(50, 100, 0.3)  # ties go to class 1
    assert selections.is_label.mean(axis=1) == pytest.approx([chosen, 1], abs=0.002)
    assert selections.share[0][~selections.is_label[0]] == pytest.approx(0.7)
    points = [peers.stopping_points(peers.fixed(0.6, 40, 0.1)[0], 0.6)]
    of_one, certain = (binom.sf(int(peers.at_least(40, 0.6, 0.1)) - 1, 40, q) for q in (0.3, 1))
    runs, aware = (
        play_all(points, [selections], rng, label_aware) for label_aware in (False, True)
    )
    assert runs.votes.tolist() == [140] * 20_000
    assert runs.accuracy.mean() == pytest.approx((chosen * of_one + certain) / 2, abs=0.002)
    assert aware.votes.mean() == pytest.approx((100 + 40 * chosen + 140) / 2, abs=0.1)


@pytest.mark.parametrize("giving_up", [0.01, 0.2])
def test_ours_is_the_tools(giving_up: float, rng: np.random.Generator) -> None:
    plan = peers.OursGivingUp(n0=1, n=900, radii=(0.3,), first_look=20, giving_up=giving_up)
    (stage,) = peers.group_sequential(plan, SIGMA)
    points = peers.stopping_points(stage, float(ndtr(0.3 / SIGMA)))
    for share in (0.0, 0.6, 0.73, 0.77, 1.0):
        truth = sequential_power(plan, SIGMA, share)
        found = peers.power([points], 1, share)
        assert found[:2] == pytest.approx((truth.votes, truth.certified[0]), rel=1e-9)
    for share in rng.uniform(0.6, 0.85, 60):
        votes = tuple(rng.binomial(1, share, 900).tolist())
        run = plan.start(SIGMA, 2)
        run.update(np.array([1, 0]))
        seen = 0
        while wanted := run.wanted:
            some = sum(votes[seen : seen + wanted])
            run.update(np.array([some, wanted - some]))
            seen += wanted
        outcome, n = stop(stage, votes)
        assert (n, outcome == CERTIFIED) == (run.certificate.n, run.certificate.radius >= 0.3)
    assert (peers.OursGivingUp().futility, peers.OursGivingUp(n=50).futility) == (
        peers.GroupSequential().futility,
        0.0,
    )


def test_a_table_gives_back_its_shares(tmp_path: Path) -> None:
    successes = [100_000, 99_999, 98_000, 84_213, 51_000]
    radii = [certified_radius(lower_confidence_bound(s, 100_000, 0.01), SIGMA) for s in successes]
    lines = [f"{i}\t3\t{3 + i % 2}\t{r:.6f}\t{1 - i % 2}\t0.1" for i, r in enumerate(radii)]
    text = "\n".join(
        ["idx\tlabel\tpredict\tradius\tcorrect\ttime", *lines, "9\t3\t-1\t0.0\t0\t0.1"]
    )
    path = tmp_path / "table.tsv"
    path.write_text(text + "\n")
    images = images_of_table(path, SIGMA, 100_000, 0.01)
    assert [image.successes for image in images] == pytest.approx([*successes, 50_000], abs=2)
    assert [share_of_label(image) for image in images[:3]] == pytest.approx(
        [1, 1e-5, 0.98], abs=3e-5
    )
