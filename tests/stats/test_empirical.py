"""Empirical accuracy, counted by hand."""

import math

import numpy as np
import pytest
from scipy.stats import binom

from diffsmooth.stats import MajorityVote
from diffsmooth.stats.attacks import Attack
from diffsmooth.stats.certificate import ABSTAIN
from diffsmooth.stats.empirical import (
    Empirical,
    checking_level,
    is_suspect,
    unconfirmed_pvalue,
)
from diffsmooth.stats.results import ATTACK_COLUMNS, ImageRecord, to_tsv

PLAN = MajorityVote(100)


def a_try(
    attack: Attack, prediction: int, label: int | None = 0, error: str = "", number: int = 0
) -> ImageRecord:
    """Of votes that all are for one class, or for two alike."""
    run = PLAN.start(0.5, 10)
    counts = np.zeros(10, dtype=np.int64)
    counts[[prediction] if prediction != ABSTAIN else [0, 1]] = 100 if prediction != ABSTAIN else 50
    run.update(counts)
    assert run.certificate.prediction == prediction
    return ImageRecord(number, label, 0.0, run.certificate, error, None, attack)


def of(image: int, certified: int, radius: float, method: str = "", norm: float = 0.0) -> Attack:
    return Attack(image=image, certified=certified, radius=radius, method=method, norm=norm)


RECORDS = [
    a_try(of(3, 0, 0.5), 0),
    a_try(of(3, 0, 0.5, "pgd", 0.45), 0),
    a_try(of(3, 0, 0.5, "pgd", 1.0), ABSTAIN),
    a_try(of(3, 0, 0.5, "ddn", 0.8), 2),
    a_try(of(5, 1, 0.7), 1),  # certified, but wrong
    a_try(of(5, 1, 0.7, "pgd", 0.9), 0),
    a_try(of(1, ABSTAIN, 0.0), ABSTAIN),
    a_try(of(1, ABSTAIN, 0.0, "pgd", 0.3), 0),
    a_try(of(2, 0, 0.2), 0),
    a_try(of(2, 0, 0.2, "pgd", 0.6), 4, error="broken"),
]


def test_by_hand() -> None:
    found = Empirical.from_records(RECORDS)
    np.testing.assert_array_equal(found.image, [1, 2, 3, 5])
    np.testing.assert_array_equal(found.certified, [ABSTAIN, 0, 0, 1])
    np.testing.assert_array_equal(found.wrong_from, [math.inf, math.inf, 0.8, 0.0])
    np.testing.assert_array_equal(found.lost_from, [0.0, math.inf, 0.8, 0.0])
    np.testing.assert_array_equal(found.flip, [math.inf, math.inf, 0.8, 0.9])
    assert found.failed == 1
    rows = [line.split("\t") for line in found.flips_tsv().splitlines()]
    assert rows[0] == ["idx", "label", "certified", "radius", "flip", "times"]
    assert rows[3] == ["3", "0", "0", "0.500000", "0.800000", "1.600"]
    assert rows[1][-2:] == rows[2][-2:] == ["nan", "nan"]
    radii = [0.0, 0.2, 0.5, 0.51, 0.8]
    np.testing.assert_array_equal(found.certified_accuracy(radii), [0.5, 0.5, 0.25, 0.0, 0.0])
    np.testing.assert_array_equal(found.accuracy(radii, True), [0.75, 0.75, 0.75, 0.75, 0.5])
    np.testing.assert_array_equal(found.accuracy(radii, False), [0.5, 0.5, 0.5, 0.5, 0.25])


def test_without_labels_there_are_flips() -> None:
    records = [
        a_try(of(0, 0, 0.5), 0, None),
        a_try(of(0, 0, 0.5, "pgd", 0.7), 1, None),
    ]
    found = Empirical.from_records(records)
    assert not found.is_labelled
    assert found.flip.tolist() == [0.7]


def test_what_is_suspect() -> None:
    inside, beyond = of(0, 0, 0.5, "pgd", 0.49), of(0, 0, 0.5, "pgd", 0.5)
    assert is_suspect(a_try(inside, 1))
    assert not is_suspect(a_try(inside, 0))
    assert not is_suspect(a_try(inside, ABSTAIN))
    assert not is_suspect(a_try(inside, 1, error="broken"))
    assert not is_suspect(a_try(beyond, 1))
    assert not is_suspect(a_try(of(0, ABSTAIN, 0.0), 1))
    assert is_suspect(a_try(of(0, 0, 0.5), 1))  # as it is


def test_levels() -> None:
    assert checking_level(600, 2) * 2 * 600 * 2 == pytest.approx(1e-6)
    assert unconfirmed_pvalue(0, 100, 0.001) == 1.0
    assert unconfirmed_pvalue(2, 100, 0.001) == pytest.approx(1 - binom.cdf(1, 100, 0.001))


def test_the_table_rounds_norms_up_and_radii_down() -> None:
    attack = Attack(
        image=40, certified=0, radius=0.1234567, method="ddn", budget=0.2, norm=0.1234561
    )
    lines = to_tsv([a_try(attack, 1, number=7)], ATTACK_COLUMNS).splitlines()
    cells = dict(zip(lines[0].split("\t"), lines[1].split("\t"), strict=True))
    assert (cells["idx"], cells["radius"], cells["norm"]) == ("40", "0.123456", "0.123457")
    assert (cells["attack"], cells["predict"], cells["correct"]) == ("ddn", "1", "0")
