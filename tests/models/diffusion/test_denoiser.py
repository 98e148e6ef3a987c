import math

import pytest
import torch
from single_image import certify_image
from torch import Tensor, nn

from diffsmooth.models import (
    Denoiser,
    LocalSmoothing,
    MultiStepPurifier,
    OneShotPurifier,
    build_denoiser,
    build_unet,
)
from diffsmooth.models.diffusion.denoiser import CallableDenoiser, as_denoiser
from diffsmooth.models.diffusion.openai import OpenAIDenoiser, match_noise
from diffsmooth.models.smoothing.purifier_kinds import PURIFIERS, PurifierKind, purifier_kind
from diffsmooth.models.smoothing.purifiers import IdentityPurifier, Purifier
from diffsmooth.models.smoothing.vote_function import VoteFunction
from diffsmooth.stats import FixedSampleSize
from diffsmooth.stats.errors import UserError

TINY = {"channel_mult": (1, 1), "attention_resolutions": ()}


class Wiener(Denoiser):
    """The best linear denoiser of pixels that are 0.5 + normal of deviation 0.2."""

    max_sigma = 2.0
    image_shape = (1, 4, 4)

    def forward(self, noisy: Tensor, sigma: float) -> Tensor:
        return 0.5 + (noisy - 0.5) * 0.2**2 / (0.2**2 + sigma**2)


def test_one_shot_takes_any_denoiser() -> None:
    denoiser, noisy = Wiener(), torch.randn(3, 1, 4, 4)
    purifier = OneShotPurifier(denoiser)
    torch.testing.assert_close(purifier(noisy, 0.2), 0.25 + noisy / 2)
    assert purifier.noise_level(2.0) == 2.0
    assert purifier.prepare(0.2) == []
    assert (purifier.draws, purifier.reverse_runs) == (0, 1)
    with pytest.raises(ValueError, match=r"sigma 2.5 is beyond .*: the largest possible is 2"):
        purifier.noise_level(2.5)
    with pytest.raises(ValueError, match="sigma must be > 0, got 0"):
        purifier.noise_level(0)
    denoiser.check_images((1, 4, 4))
    with pytest.raises(ValueError, match="takes images of 1 x 4 x 4, not 3 x 8 x 8"):
        denoiser.check_images((3, 8, 8))


def test_and_any_function_of_image_and_noise_level() -> None:
    noisy = torch.randn(3, 1, 4, 4)
    purifier = OneShotPurifier(lambda noisy, sigma: noisy / (1 + sigma))
    torch.testing.assert_close(purifier(noisy, 1.0), noisy / 2)
    assert purifier.denoiser.max_sigma == math.inf
    assert purifier.denoiser.image_shape is None
    with pytest.raises(UserError, match="must give images of 3 x 1 x 4 x 4, got 3 x 1 x 4"):
        OneShotPurifier(lambda noisy, sigma: noisy[..., 0])(noisy, 1.0)
    with pytest.raises(UserError, match="must be callable, got a int"):
        as_denoiser(3)


def test_a_module_that_is_called_so_moves_with_the_purifier() -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.share = nn.Parameter(torch.tensor(0.5))

        def forward(self, noisy: Tensor, sigma: float) -> Tensor:
            return self.share * noisy

    purifier = OneShotPurifier(Half()).double()
    assert [value.dtype for value in purifier.state_dict().values()] == [torch.float64]
    assert purifier(torch.ones(1, 1, 2, 2), 0.5).dtype == torch.float32


def test_several_steps_need_timesteps() -> None:
    for denoiser in (Wiener(), CallableDenoiser(lambda noisy, _: noisy)):
        with pytest.raises(UserError, match="several steps need a denoiser with timesteps"):
            MultiStepPurifier(denoiser, steps=2)  # type: ignore[arg-type]
    MultiStepPurifier(build_denoiser("small-gray32", **TINY), steps=2)


def test_a_unet_and_its_schedule_are_one() -> None:
    torch.manual_seed(0)
    denoiser = build_denoiser("small-gray32", **TINY).eval()
    unet, schedule = denoiser.unet, denoiser.schedule
    nn.init.normal_(unet.out[2].weight, std=0.05)  # type: ignore[arg-type]
    noisy = torch.rand(2, 1, 8, 8) + 0.5 * torch.randn(2, 1, 8, 8)
    with torch.inference_mode():
        purified = denoiser(noisy, 0.5)
        assert purified.equal(OneShotPurifier(denoiser)(noisy, 0.5))
        assert purified.equal(OneShotPurifier(unet, schedule)(noisy, 0.5))
        carlini = OpenAIDenoiser(unet, schedule, "carlini")
        assert carlini.noise_level(0.5) == match_noise(schedule, 0.5, "carlini").noise_level > 0.5
        same = OneShotPurifier(unet, schedule, "carlini")(noisy, 0.5)
        assert OneShotPurifier(carlini)(noisy, 0.5).equal(same)
        draws = torch.randn(2, 2, 1, 8, 8)
        densepure = OpenAIDenoiser(unet, schedule, "densepure")
        expected = MultiStepPurifier(unet, schedule, 3)(noisy, 0.5, draws)
        assert MultiStepPurifier(densepure, steps=3)(noisy, 0.5, draws).equal(expected)
    with pytest.raises(UserError, match="are of a U-Net, which needs its schedule"):
        OneShotPurifier(unet)
    with pytest.raises(UserError, match="are of a U-Net, which needs its schedule"):
        OneShotPurifier(denoiser, convention="carlini")
    with pytest.raises(UserError, match="are of a U-Net, which needs its schedule"):
        OneShotPurifier(denoiser, schedule)
    with pytest.raises(ValueError, match="unknown convention 'x'"):
        OpenAIDenoiser(unet, schedule, "x")  # type: ignore[arg-type]


def test_what_openais_denoisers_can_be_asked() -> None:
    unet = build_unet("small-gray32", **TINY)
    schedule = build_denoiser("small-gray32", **TINY).schedule
    assert OpenAIDenoiser(unet, schedule).max_sigma == schedule.max_sigma
    trained = OpenAIDenoiser(unet, schedule, max_sigma=1.0)
    assert trained.noise_level(1.0) == 1.0
    with pytest.raises(ValueError, match=r"sigma 1.5 is beyond what it was trained for"):
        trained.noise_level(1.5)
    with pytest.raises(ValueError, match="beyond the cosine schedule"):
        OpenAIDenoiser(unet, schedule).noise_level(1e9)
    trained.check_images((1, 10, 12))
    with pytest.raises(ValueError, match="takes images whose number of channels is 1, not 3"):
        trained.check_images((3, 8, 8))
    with pytest.raises(ValueError, match="sides are multiples of 2, not 8 x 9"):
        trained.check_images((1, 8, 9))
    padded = OpenAIDenoiser(unet, schedule, pad_to=32)
    padded.check_images((1, 13, 32))
    for shape in ((1, 11, 11), (1, 33, 33)):
        with pytest.raises(ValueError, match="cannot be padded to its 32"):
            padded.check_images(shape)


@pytest.mark.parametrize("steps", [1, 3])
def test_what_is_computed_once_changes_nothing_and_follows_the_weights(steps: int) -> None:
    torch.manual_seed(0)
    denoiser = build_denoiser("small-gray32", **TINY).eval()
    nn.init.normal_(denoiser.unet.out[2].weight, std=0.05)  # type: ignore[arg-type]
    purifier = MultiStepPurifier(denoiser, steps=steps)
    noisy, draws = torch.rand(2, 1, 8, 8), torch.randn(steps - 1, 2, 1, 8, 8)
    fired: list[nn.Module] = []
    denoiser.unet.time_embed.register_forward_hook(lambda module, *_: fired.append(module))
    with torch.inference_mode():
        before = purifier(noisy, 0.5, draws)
        assert len(fired) == steps
        assert purifier.prepare(0.5) == [denoiser.unet]
        assert len(fired) == 2 * steps
        assert purifier(noisy, 0.5, draws).equal(before)
        assert len(fired) == 2 * steps
        finer = purifier.double()(noisy.double(), 0.5, draws.double())
    torch.testing.assert_close(finer, before.double(), rtol=0, atol=1e-5)


def test_kinds_of_purifiers_say_what_they_take(monkeypatch: pytest.MonkeyPatch) -> None:
    denoiser = build_denoiser("small-gray32", **TINY)
    assert type(purifier_kind("none").build(None)) is IdentityPurifier
    one = purifier_kind("oneshot").build(denoiser)
    assert type(one) is OneShotPurifier
    several = purifier_kind("multistep").build(denoiser)
    assert isinstance(several, MultiStepPurifier)
    assert (several.steps, several.reverse_runs, several.draws) == (10, 1, 9)
    several = purifier_kind("multistep").build(denoiser, 3, 5)
    assert isinstance(several, MultiStepPurifier)
    assert (several.steps, several.reverse_runs) == (3, 5)
    with pytest.raises(UserError, match="purifier must be oneshot or multistep or none or PACKAGE"):
        purifier_kind("edm")

    class Mine(Purifier):
        def __init__(self, denoiser: Denoiser, steps: int = 1) -> None:
            super().__init__()
            self.denoiser, self.steps = denoiser, steps

    monkeypatch.setitem(PURIFIERS._things, "mine", Mine)
    mine = purifier_kind("mine").build(denoiser)
    assert isinstance(mine, Mine)
    assert mine.denoiser is denoiser
    assert purifier_kind("mine").steps is None
    mine = PurifierKind(Mine, steps=4).build(denoiser)
    assert isinstance(mine, Mine)
    assert mine.steps == 4
    with pytest.raises(UserError, match="factory must give a Purifier"):
        PurifierKind(lambda denoiser: denoiser).build(denoiser)


class Quiet(Wiener):
    def noise_level(self, sigma: float) -> float:
        return self.level

    level = 0.0


@pytest.mark.parametrize("level", [0.0, 0.49999, float("nan"), float("inf")])
def test_noise_below_the_radius_s_sigma_certifies_nothing(level: float) -> None:
    quiet = Quiet()
    quiet.level = level
    local = LocalSmoothing(nn.Flatten(), 1, 0.0, (1, 2, 2))
    with pytest.raises(ValueError, match=r"noise level must be at least sigma 0\.5"):
        VoteFunction(OneShotPurifier(quiet), local, 0.5, 4)


def test_what_a_strangers_denoiser_overflows_to_is_no_vote() -> None:
    local = LocalSmoothing(nn.Sequential(nn.Flatten(), nn.Sigmoid()), 1, 0.0, (1, 2, 2))
    endless = OneShotPurifier(lambda noisy, sigma: torch.full_like(noisy, torch.inf))
    g = VoteFunction(endless, local, 0.5, 4)
    with pytest.raises(UserError, match="not finite"):
        certify_image(g, torch.rand(1, 2, 2), 0, FixedSampleSize(n0=5, n=20))
