"""Which images a run keeps."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from diffsmooth.pipeline.gallery import choose_images
from diffsmooth.stats import ABSTAIN, Certificate, ImageRecord

OUTCOMES = ("correct", "wrong", "abstained", "failed")


def records(outcomes: Sequence[tuple[str, float]]) -> list[ImageRecord]:
    """Records of images 0, 2, 4 .. of class 1."""
    made = []
    for i, (outcome, radius) in enumerate(outcomes):
        prediction = {"correct": 1, "wrong": 0}.get(outcome, ABSTAIN)
        certificate = Certificate(
            prediction=prediction,
            radius=0.0 if prediction == ABSTAIN else radius,
            sigma=0.5,
            alpha=0.001,
            plan="fixed",
            max_n=100,
            max_radius=1.0,
        )
        made.append(ImageRecord(2 * i, 1, 1.0, certificate, "broke" if outcome == "failed" else ""))
    return made


def test_by_hand() -> None:
    outcomes = [("correct", radius / 10) for radius in range(9)] + [("wrong", 0.3)]
    # One wrong, none abstained, and of the correct the least, the middle and the largest radius.
    assert choose_images(records(outcomes), 4) == [0, 8, 16, 18]
    assert choose_images(records(outcomes[::-1]), 4) == [0, 2, 10, 18]


@given(
    outcomes=st.lists(st.tuples(st.sampled_from(OUTCOMES), st.floats(0.0, 1.0)), max_size=30),
    count=st.integers(1, 12),
)
def test_as_many_as_wanted_and_no_outcome_is_left_out(
    outcomes: list[tuple[str, float]], count: int
) -> None:
    chosen = choose_images(records(outcomes), count)
    kinds = [outcomes[index // 2][0] for index in chosen]
    tried = [kind for kind, _ in outcomes if kind != "failed"]
    assert chosen == sorted(set(chosen))
    assert len(chosen) == min(count, len(tried))
    assert "failed" not in kinds
    shares = {kind: kinds.count(kind) for kind in OUTCOMES[:3]}
    for kind, share in shares.items():
        if share < tried.count(kind):  # it could have had more: no other has two more than it
            assert share >= max(shares.values()) - 1
