"""The answer of a vote from the answers of its reverse runs, against a rule written by hand; and
the mean softmax that it comes from."""

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from diffsmooth.models import MultiStepPurifier, build_unet
from diffsmooth.models.diffusion.presets import get_preset
from diffsmooth.models.smoothing.local_smoothing import LocalSmoothing
from diffsmooth.models.smoothing.purifiers import IdentityPurifier, Purifier
from diffsmooth.models.smoothing.vote_function import VoteFunction

CLASSES = 4


class SeveralRuns(IdentityPurifier):
    def __init__(self, runs: int) -> None:
        super().__init__()
        self.reverse_runs = runs


def vote_of(runs: Sequence[Sequence[int]], classes: int = CLASSES) -> list[int]:
    """The vote function's answers, from what each run answers for each image; -1 is NaN."""
    purifier: Purifier = SeveralRuns(len(runs))
    local = LocalSmoothing(nn.Flatten(), m=1, sigma_local=0.0, image_shape=(1, 1, classes))
    f = VoteFunction(purifier, local, 0.5, classes, batch=len(runs[0]))

    def confidence_of(run: int) -> Tensor:
        confidence = torch.zeros(len(runs[run]), classes)
        for image, answer in enumerate(runs[run]):
            confidence[image, answer] = 1.0 if answer >= 0 else torch.nan
        return confidence

    return f.vote(confidence_of).tolist()


def by_hand(answers: Sequence[int], classes: int = CLASSES) -> int:
    """The class of most runs; of several, the one that a run gave first."""
    if -1 in answers:
        return classes
    most = max(answers.count(k) for k in answers)
    for answer in answers:
        if answers.count(answer) == most:
            return answer
    raise AssertionError


several_runs = st.integers(1, 7).flatmap(
    lambda runs: st.lists(
        st.lists(st.integers(0, CLASSES - 1), min_size=runs, max_size=runs),
        min_size=1,
        max_size=5,
    )
)


@given(several_runs)
def test_the_most_frequent_answer_and_of_equals_the_earliest(images: list[list[int]]) -> None:
    runs = list(zip(*images, strict=True))
    assert vote_of(runs) == [by_hand(answers) for answers in images]


@given(several_runs, st.permutations(range(CLASSES)))
def test_the_numbering_of_the_classes_does_not_matter(
    images: list[list[int]], names: list[int]
) -> None:
    runs = list(zip(*images, strict=True))
    renamed = [[names[answer] for answer in run] for run in runs]
    assert vote_of(renamed) == [names[answer] for answer in vote_of(runs)]


@pytest.mark.parametrize("right", [0, 1])
def test_two_runs_are_as_good_whichever_number_the_right_class_has(right: int) -> None:
    wrong = 1 - right
    # Of 100 pairs of runs with 30 % wrong ones: 49 + 21 begin with the right class.
    pairs = [(right, right)] * 49 + [(right, wrong)] * 21 + [(wrong, right)] * 21
    pairs += [(wrong, wrong)] * 9
    assert vote_of(list(zip(*pairs, strict=True)), classes=2).count(right) == 70


@pytest.mark.parametrize("answers", [[-1], [0, -1], [-1, 2, 2], [1, 1, 1, -1], [-1, -1, 0]])
def test_a_run_without_an_answer_leaves_the_vote_without_one(answers: list[int]) -> None:
    assert vote_of([[answer, 3] for answer in answers]) == [CLASSES, 3]


def test_as_a_module_it_is_mean_softmax_and_its_gradient_is_that_of_the_formula() -> None:
    """Softmax p of W x has the derivative (diag(p) - p p^T) W; f's is the mean over its copies."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(3, 8, generator=generator)
    classifier = nn.Sequential(nn.Flatten(), nn.Linear(8, 3, bias=False))
    classifier[1].weight.data.copy_(weight)
    local = LocalSmoothing(classifier, m=4, sigma_local=0.5, image_shape=(2, 2, 2))
    g = VoteFunction(IdentityPurifier(), local, 0.5, 3)
    noisy = torch.rand(5, 2, 2, 2, generator=generator).requires_grad_()
    confidence = g.f(noisy)
    (gradient,) = torch.autograd.grad(confidence[:, 1].sum(), noisy)
    again = g.f(noisy)
    assert torch.equal(again, confidence)  # it draws nothing
    copies = (noisy.detach()[:, None] + 0.5 * local.noise).flatten(2)  # (B, m, 8)
    p = torch.exp(copies @ weight.T)
    p /= p.sum(dim=2, keepdim=True)
    torch.testing.assert_close(confidence, p.mean(dim=1))
    jacobian = (torch.diag_embed(p) - p[..., :, None] * p[..., None, :]) @ weight  # (B, m, 3, 8)
    torch.testing.assert_close(gradient.flatten(1), jacobian[:, :, 1].mean(dim=1))


def test_what_a_random_purifier_draws_is_given_to_it_or_missed() -> None:
    unet = build_unet("small-gray32", channel_mult=(1,), attention_resolutions=())
    purifier = MultiStepPurifier(unet, get_preset("small-gray32").schedule, steps=2)
    local = LocalSmoothing(nn.Flatten(), m=1, sigma_local=0.0, image_shape=(1, 8, 8))
    f = VoteFunction(purifier, local, 0.5, 64).f
    noisy, draws = torch.rand(2, 1, 8, 8), torch.randn(1, 2, 1, 8, 8)
    assert torch.equal(f(noisy, draws), f(noisy, draws))
    with pytest.raises(ValueError, match="draws must be"):
        f(noisy)
