"""What votes say of p_A, by a hand count."""

import numpy as np
from scipy.stats import beta

from diffsmooth.stats import FixedSampleSize, GroupSequential, ImageRecord, MajorityVote, Results
from diffsmooth.stats.true_class import share_at_least

ALPHA = 0.001


def record(index: int, label: int | None, votes: tuple[int, int, int]) -> ImageRecord:
    """Of 100 estimation votes for three classes; selection chooses the one with most of them."""
    run = FixedSampleSize(n0=10, n=100, alpha=ALPHA).start(0.5, 3)
    run.update(np.eye(3, dtype=int)[int(np.argmax(votes))] * 10)
    run.update(np.array(votes))
    return ImageRecord(index, label, 1.0, run.certificate)


def bound(successes: int) -> float:
    return float(beta.ppf(ALPHA, successes, 101 - successes))


def test_bound_and_share_by_hand() -> None:
    records = [
        record(0, 1, (5, 90, 5)),  # right
        record(1, 2, (5, 90, 5)),  # wrong: 5 of 100 votes were for the true class
        record(2, 0, (55, 45, 0)),  # right, but abstains
        record(3, 1, (55, 45, 0)),  # abstains, and another class was selected
        ImageRecord(4, 1, 1.0, FixedSampleSize(10, 100, ALPHA).nothing(0.5), "no pixels"),
    ]
    results = Results.from_records(records)
    told = results.true_class
    assert told is not None
    np.testing.assert_allclose(told.lower, [bound(90), 0.0, bound(55), 0.0, 0.0], rtol=1e-8)
    assert results.prediction.tolist() == [1, 1, -1, -1, -1]
    assert bound(55) < 0.5 < bound(90)
    np.testing.assert_array_equal(told.share, [0.90, 0.05, 0.55, 0.45, np.nan])
    assert share_at_least(told.lower, [0.0, 0.3, 0.7]).tolist() == [1.0, 0.4, 0.2]
    assert share_at_least(told.share, [0.0, 0.45, 0.9]).tolist() == [0.8, 0.6, 0.2]


def test_the_bound_of_a_right_image_is_its_certificates() -> None:
    plan = GroupSequential(n0=10, n=1000, alpha=ALPHA, radii=(0.25,), label_aware=True)
    records = []
    for index, label in enumerate((0, 1)):
        run = plan.start(0.5, 2, label=label)
        while run.wanted:
            run.update(np.array([run.wanted, 0]))
        records.append(ImageRecord(index, label, 1.0, run.certificate))
    told = Results.from_records(records).true_class
    assert told is not None
    assert told.lower.tolist() == [records[0].certificate.p_lower, 0.0]
    np.testing.assert_array_equal(told.share, [1.0, np.nan])  # the second was skipped


def test_without_labels_or_bounds_it_is_not_known() -> None:
    unlabelled = [record(0, 1, (5, 90, 5)), record(1, None, (5, 90, 5))]
    predicted = [ImageRecord(0, 1, 1.0, MajorityVote(10).nothing(0.5), "no pixels")]
    assert Results.from_records(unlabelled).true_class is None
    assert Results.from_records(predicted).true_class is None
