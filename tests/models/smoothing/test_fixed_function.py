"""What looks at its batch, its place or the past gets no certificate; what only rounds does."""

import copy
import math
from collections.abc import Callable, Iterator

import pytest
import torch
from single_image import certify_image, predict_image
from torch import Tensor, nn
from torch.nn import functional as F

from diffsmooth.models import (
    IdentityPurifier,
    LocalSmoothing,
    MultiStepPurifier,
    OneShotPurifier,
    build_classifier,
    build_unet,
)
from diffsmooth.models.diffusion.presets import get_preset
from diffsmooth.models.smoothing.engine import VoteEngine
from diffsmooth.models.smoothing.fixed_function import check_again, ensure_fixed
from diffsmooth.models.smoothing.inference import prepare
from diffsmooth.models.smoothing.noise import NoiseKey
from diffsmooth.models.smoothing.packing import Finished, Task
from diffsmooth.models.smoothing.probe_batch import (
    arrangements,
    difference_of_rows,
    moved_among_strangers,
    probe_rows,
)
from diffsmooth.models.smoothing.purifiers import Purifier
from diffsmooth.models.smoothing.sweep import Setting, Sweep, certify_settings
from diffsmooth.models.smoothing.vote_function import VoteFunction
from diffsmooth.stats import FixedSampleSize
from diffsmooth.stats.errors import UserError

SHAPE = (1, 8, 8)
PLAN = FixedSampleSize(n0=20, n=100)


class Head(nn.Module):
    """Three classes, linear but for a wave; each row by itself, so that no place changes a bit."""

    def __init__(self) -> None:
        super().__init__()
        weight = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
        self.weight = nn.Parameter(weight)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin((x.flatten(1)[:, :, None] * self.weight).sum(dim=1)) * 3


class Attack(nn.Module):
    """A head behind, or before, something that it should not be."""

    def __init__(
        self, before: Callable[[Tensor], Tensor] = lambda x: x, after: Callable = lambda y, x: y
    ) -> None:
        super().__init__()
        self.head, self.before, self.after = Head(), before, after

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.head(self.before(x)), x)


def smooth(
    classifier: nn.Module,
    batch: int = 16,
    m: int = 1,
    purifier: Purifier | None = None,
    shape: tuple[int, int, int] = SHAPE,
    precision: str = "float32",
    classes: int = 3,
) -> VoteFunction:
    local = LocalSmoothing(classifier, m, 0.25 if m > 1 else 0.0, shape)
    return VoteFunction(purifier or IdentityPurifier(), local, 0.5, classes, batch, precision)


def neighbour(x: Tensor) -> Tensor:
    return 0.5 * x + 0.5 * x.roll(1, dims=0)


def quantised(x: Tensor) -> Tensor:
    scale = x.abs().amax() / 127
    return (x / scale).round() * scale


def ranked(y: Tensor, x: Tensor) -> Tensor:
    return y.argsort(dim=0).argsort(dim=0).to(y.dtype)


def rarely(x: Tensor) -> Tensor:
    seen = (x.flatten(1)[:, 0] > 3.0).any()
    return torch.where(seen, x + 0.3, x)


def only_rare_rows_look(x: Tensor) -> Tensor:
    rare = x.flatten(1)[:, :1, None, None].abs() > 2.5
    return torch.where(rare, x - x.mean(dim=0), x)


def ramp(x: Tensor) -> Tensor:
    return torch.arange(len(x), dtype=x.dtype).view(-1, 1, 1, 1) / len(x)


STRUCTURAL: dict[str, Attack] = {
    "batch mean": Attack(lambda x: x - x.mean(dim=0)),
    "weak batch mean": Attack(lambda x: x - 1e-6 * x.mean(dim=0)),
    "mean of the logits": Attack(after=lambda y, x: y - y.mean(dim=0)),
    "batch statistics": Attack(lambda x: F.batch_norm(x, None, None, training=True)),
    "ranks": Attack(after=ranked),
    "row 0": Attack(lambda x: x - 0.1 * x[:1]),
    "last row": Attack(lambda x: x - 0.1 * x[-1:]),
    "neighbour": Attack(neighbour),
    "two rows on": Attack(lambda x: x + 0.1 * x.roll(2, dims=0)),
    "place": Attack(lambda x: x + 0.1 * ramp(x)),
    "odd places": Attack(lambda x: x + 0.1 * (torch.arange(len(x)) % 2).view(-1, 1, 1, 1)),
    "first place": Attack(lambda x: x + 0.1 * (torch.arange(len(x)) == 0).view(-1, 1, 1, 1)),
    "last place": Attack(lambda x: x + 1e-5 * (ramp(x) == ramp(x).max())),
    "dynamic scale": Attack(quantised),
    "batch maximum": Attack(after=lambda y, x: y * x.amax()),
    "a rare row moves the others": Attack(rarely),
    "only rare rows look": Attack(only_rare_rows_look),
    # Softmax is 0 or 1 to the last bit, so that only the logits show it.
    "saturated": Attack(after=lambda y, x: 1e6 * torch.sign(y) * (5 + x.mean())),
    # Beside a common offset the difference looks small.
    "offset": Attack(after=lambda y, x: y - y.mean(dim=0) + 3e3),
    "large batches only": Attack(lambda x: x - x.mean(dim=0) if len(x) > 9 else x),
}


@pytest.mark.parametrize("name", STRUCTURAL)
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_what_looks_at_its_batch_or_its_place_is_refused(name: str, precision: str) -> None:
    g = smooth(copy.deepcopy(STRUCTURAL[name]), precision=precision)
    with pytest.raises(UserError, match="what the classifier makes of one depends on"):
        certify_image(g, torch.full(SHAPE, 0.5), 0, PLAN)
    with pytest.raises(UserError, match="not one function of each image"):
        predict_image(g, torch.full(SHAPE, 0.5), 0, 20, 0.01)


@pytest.mark.parametrize("batch", [2, 3, 5])
@pytest.mark.parametrize("name", ["batch mean", "mean of the logits", "place", "dynamic scale"])
def test_so_it_is_in_small_batches(name: str, batch: int) -> None:
    with pytest.raises(UserError, match="not one function of each image"):
        ensure_fixed(smooth(copy.deepcopy(STRUCTURAL[name]), batch).f)


class PurifierOf(Purifier):
    def __init__(self, attack: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.attack = attack

    def forward(self, noisy: Tensor, sigma: float, draws: Tensor | None = None) -> Tensor:
        return self.attack(noisy)


def test_the_part_and_what_it_depends_on_are_named() -> None:
    g = smooth(Head(), purifier=PurifierOf(lambda x: x - x.mean(dim=0)))
    with pytest.raises(UserError, match="the purifier makes of one depends on the other rows"):
        ensure_fixed(g.f)
    g = smooth(STRUCTURAL["place"])
    with pytest.raises(UserError, match="the classifier makes of one depends on its place"):
        ensure_fixed(g.f)
    with pytest.raises(UserError, match="the purifier gave other numbers for the same batch"):
        ensure_fixed(smooth(Head(), purifier=PurifierOf(lambda x: x + 1e-6 * torch.rand_like(x))).f)


class Counter(nn.Module):
    """Changes a little with each call."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.calls = Head(), 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.head(x + 1e-4 * self.calls)


class Follower(nn.Module):
    """Subtracts a running mean, as batch-norm statistics run."""

    def __init__(self) -> None:
        super().__init__()
        self.head = Head()
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.mean = 0.9 * self.mean + 0.1 * x.mean()
        return self.head(x - self.mean)


@pytest.mark.parametrize("batch", [1, 16])
@pytest.mark.parametrize(
    "classifier",
    [Counter(), Follower(), Attack(lambda x: F.dropout(x, 0.1, training=True))],
    ids=["counter", "running mean", "dropout"],
)
def test_what_is_random_or_remembers_is_refused(classifier: nn.Module, batch: int) -> None:
    g = smooth(copy.deepcopy(classifier), batch)
    with pytest.raises(UserError, match="the classifier gave other numbers for the same batch"):
        certify_image(g, torch.full(SHAPE, 0.5), 0, PLAN)


class PlaceDependentSum(nn.Module):
    """Adds up as kernels do whose threads share a batch: in another order at odd places."""

    def __init__(self) -> None:
        super().__init__()
        self.head = Head()

    def forward(self, x: Tensor) -> Tensor:
        a, b, c = x, 1.7 * x.roll(1, dims=2), 0.3 * x.roll(2, dims=2)
        odd = (torch.arange(len(x)) % 2 == 1).view(-1, 1, 1, 1)
        return self.head(torch.where(odd, (a + b) + c, a + (b + c)))


class HalfPrecision(PlaceDependentSum):
    """Whatever it is given."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.bfloat16().float().bfloat16()).float()


def test_what_only_rounds_is_recorded_and_may_vote() -> None:
    g = smooth(PlaceDependentSum())
    found = ensure_fixed(g.f)
    assert not found.exact
    assert 0 < found.rounding < 1e-5
    assert "by rounding" in str(found)
    assert certify_image(g, torch.full(SHAPE, 0.5), 0, PLAN).votes == 120


def test_a_batch_of_one_depends_on_nothing_else() -> None:
    assert ensure_fixed(smooth(STRUCTURAL["batch mean"], batch=1).f).exact


def test_what_cannot_be_tried_again_without_rounding_is_refused() -> None:
    with pytest.raises(UserError, match=r"cannot be tried again .* computes in torch.bfloat16"):
        ensure_fixed(smooth(HalfPrecision()).f)


@pytest.fixture
def three_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(threads)


class ChannelsLast(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.contiguous(memory_format=torch.channels_last)


@pytest.mark.usefixtures("three_threads")
def test_group_norms_in_channels_last_depend_on_the_place_by_rounding() -> None:
    """The CPU's kernel sums a row that two threads share in two parts."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for channels in (3, 64, 64):
        layers += [
            nn.Conv2d(channels, 64, 3, padding=1), ChannelsLast(), nn.GroupNorm(32, 64), nn.ReLU(),
        ]  # fmt: skip
    classifier = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
    found = ensure_fixed(smooth(classifier, 7, 2, shape=(3, 32, 32), classes=10).f)
    assert not found.exact
    assert 0 < found.rounding < 1e-5
    assert torch.get_num_threads() == 3


@pytest.mark.parametrize("purifier", ["none", "oneshot", "multistep"])
@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("prepared", [False, True])
def test_honest_networks_are_exact(purifier: str, precision: str, prepared: bool) -> None:
    torch.manual_seed(0)
    unet = build_unet("small-gray32", channel_mult=(1,))
    for module in unet.modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d) and not module.weight.any():
            nn.init.normal_(module.weight, std=0.05)
    schedule = get_preset("small-gray32").schedule
    purifiers: dict[str, Purifier] = {
        "none": IdentityPurifier(),
        "oneshot": OneShotPurifier(unet, schedule),
        "multistep": MultiStepPurifier(unet, schedule, steps=3, runs=2),
    }
    classifier = build_classifier("cifar_resnet8", 10, dataset="fashion_mnist").eval()
    g = smooth(classifier, 6, 2, purifiers[purifier], (1, 32, 32), precision, 10)
    if prepared:
        prepare(g.f)
    assert ensure_fixed(g.f).exact


def fused_with(attack: Attack) -> VoteFunction:
    """A prepared U-Net and ResNet with something between the ResNet and its input."""
    torch.manual_seed(0)
    resnet = build_classifier("cifar_resnet8", 10, dataset="fashion_mnist").eval()
    attack = copy.deepcopy(attack)
    attack.head = resnet  # type: ignore[assignment]
    unet = build_unet("small-gray32", channel_mult=(1,))
    nn.init.normal_(unet.out[2].weight, std=0.05)  # type: ignore[arg-type]
    purifier = OneShotPurifier(unet, get_preset("small-gray32").schedule)
    g = smooth(attack, 6, 2, purifier, (1, 32, 32), "bf16", 10)
    prepare(g.f)
    return g


@pytest.mark.parametrize("name", ["weak batch mean", "dynamic scale", "place"])
def test_prepared_networks_are_tried_again_in_float64(name: str) -> None:
    with pytest.raises(UserError, match=r"stay in torch\.float64"):
        ensure_fixed(fused_with(STRUCTURAL[name]).f)


@pytest.mark.slow
def test_so_are_prepared_purifiers() -> None:
    g = fused_with(Attack())
    assert ensure_fixed(g.f).exact
    purifier = g.f.purifier
    assert isinstance(purifier, OneShotPurifier)
    out = purifier.denoiser.unet.out
    out[2] = nn.Sequential(out[2], Attacked(lambda x: x - 1e-2 * x.mean(dim=0)))
    with pytest.raises(UserError, match=r"the purifier makes of one .* stay in torch.float64"):
        ensure_fixed(g.f)


@pytest.mark.parametrize("few", [0, 10**9])
def test_rounding_in_a_prepared_purifier_vanishes_there(
    monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    monkeypatch.setattr("diffsmooth.models.smoothing.finer_arithmetic.FEW", few)
    g = fused_with(Attack())
    purifier = g.f.purifier
    assert isinstance(purifier, OneShotPurifier)

    def by_place(x: Tensor) -> Tensor:
        odd = (torch.arange(len(x)) % 2 == 1).view(-1, 1, 1, 1)
        return torch.where(odd, (x + 0.1) + 0.3, x + (0.1 + 0.3))

    out = purifier.denoiser.unet.out
    out[2] = nn.Sequential(out[2], Attacked(by_place))
    found = ensure_fixed(g.f)
    assert not found.exact
    assert 0 < found.rounding < 0.05


class Attacked(nn.Module):
    def __init__(self, attack: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.attack = attack

    def forward(self, x: Tensor) -> Tensor:
        return self.attack(x)


def test_large_networks_are_tried_again_with_few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diffsmooth.models.smoothing.finer_arithmetic.FEW", 0)
    monkeypatch.setattr("diffsmooth.models.smoothing.finer_arithmetic.MANY", 0)
    assert not ensure_fixed(smooth(PlaceDependentSum()).f).exact
    for name in ("batch mean", "place", "dynamic scale"):
        with pytest.raises(UserError, match=r"stay in torch\.float32"):
            ensure_fixed(smooth(copy.deepcopy(STRUCTURAL[name])).f)
    # Few rows do not show it, but rounding does not make so much.
    with pytest.raises(UserError, match="too much for rounding"):
        ensure_fixed(smooth(copy.deepcopy(STRUCTURAL["large batches only"])).f)


@pytest.mark.parametrize("name", ["batch mean", "saturated", "place"])
def test_compiled_networks_are_checked_as_they_vote(name: str) -> None:
    classifier = Attack(lambda x: x - x.mean(dim=0)) if name != "place" else STRUCTURAL["place"]
    g = smooth(copy.deepcopy(classifier))
    g.f.local_smoothing.compile(backend="eager")
    with pytest.raises(UserError, match="not one function of each image"):
        ensure_fixed(g.f)
    honest = smooth(Head())
    honest.f.local_smoothing.compile(backend="eager")
    assert ensure_fixed(honest.f).exact


def test_the_check_is_made_once_for_the_same_weights() -> None:
    g, calls = smooth(Attack()), []
    classifier = g.f.local_smoothing.classifier  # a copy
    classifier.before = lambda x: (calls.append(len(x)), x)[1]
    certify_image(g, torch.full(SHAPE, 0.5), 0, PLAN)
    first = len(calls)
    assert first == 4 + math.ceil(20 / 16) + math.ceil(100 / 16)
    certify_image(g, torch.full(SHAPE, 0.5), 1, PLAN)
    assert len(calls) == first + first - 4
    with torch.no_grad():
        classifier.head.weight.mul_(1.5)
    ensure_fixed(g.f)
    ensure_fixed(g.f)
    assert len(calls) == first + first


def test_the_same_networks_give_the_same_digest_and_others_another() -> None:
    one, other = ensure_fixed(smooth(Head()).f), ensure_fixed(smooth(Head()).f)
    assert one._replace(seconds=0.0) == other._replace(seconds=0.0)
    changed = Head()
    with torch.no_grad():
        changed.weight[0, 0] += 1e-3
    found = ensure_fixed(smooth(changed).f)
    assert found.inputs == one.inputs
    assert found.outputs != one.outputs
    assert ensure_fixed(smooth(Head()).f, [torch.full(SHAPE, 0.3)]).inputs != one.inputs


class Turncoat(nn.Module):
    """One fixed function until so many calls are made."""

    def __init__(self, at: int, attack: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.head, self.at, self.calls, self.attack = Head(), at, 0, attack

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.head(self.attack(x) if self.calls > self.at else x)


@pytest.mark.parametrize(
    ("attack", "message"),
    [
        (lambda x: x - x.mean(dim=0), "a spot check found that what the classifier"),
        (lambda x: x + 1e-3 * torch.rand_like(x), "gave other numbers for the same batch"),
        (lambda x: x + 1e-3 * ramp(x), "a spot check found"),
    ],
    ids=["batch mean", "random", "place"],
)
def test_a_spot_check_ends_the_run_and_nothing_in_flight_is_told(
    monkeypatch: pytest.MonkeyPatch, attack: Callable[[Tensor], Tensor], message: str
) -> None:
    monkeypatch.setattr("diffsmooth.models.smoothing.engine.SPOT_CHECK", 10)
    told: list[Finished] = []
    engine = VoteEngine(smooth(Turncoat(20, attack)).f, PLAN)

    def certify() -> None:
        for i in range(40):
            engine.submit(Task(torch.full(SHAPE, 0.5), NoiseKey(0, "certify", "", "", i)))
            while not engine.needs_task:
                told.extend(engine.step())

    with engine, pytest.raises(UserError, match=message):
        certify()
    # The first check is before call 20; the second is at the 20th batch, of 320 votes.
    assert 0 < len(told) < 3
    assert all(finished.error is None for finished in told)


@pytest.mark.parametrize("classifier", [Head(), PlaceDependentSum()], ids=["exact", "rounds"])
def test_spot_checks_let_honest_networks_pass(
    monkeypatch: pytest.MonkeyPatch, classifier: nn.Module
) -> None:
    g = smooth(classifier)
    expected = certify_image(g, torch.full(SHAPE, 0.5), 0, PLAN)
    monkeypatch.setattr("diffsmooth.models.smoothing.engine.SPOT_CHECK", 1)
    assert certify_image(g, torch.full(SHAPE, 0.5), 0, PLAN) == expected


def test_a_spot_check_finds_what_turned_up_after_the_start() -> None:
    g = smooth(Attack())
    found, rows = ensure_fixed(g.f), probe_rows(g.f)[0]
    check_again(g.f, found, rows)
    g.f.local_smoothing.classifier.before = lambda x: x - x.mean(dim=0)  # type: ignore[assignment]
    for known in (found, found._replace(exact=False, rounding=1e-6)):
        with pytest.raises(UserError, match="the classifier makes of one depends"):
            check_again(g.f, known, rows)


@pytest.mark.parametrize("attack", [lambda x: x.neg(), lambda x: x + 1e-3], ids=["sign", "shift"])
def test_a_function_that_becomes_another_one_is_found_by_a_spot_check(
    monkeypatch: pytest.MonkeyPatch, attack: Callable[[Tensor], Tensor]
) -> None:
    """After its change it is one fixed function, too, but not that of the first votes."""
    monkeypatch.setattr("diffsmooth.models.smoothing.engine.SPOT_CHECK", 2)
    g = smooth(Turncoat(6, attack))
    with pytest.raises(UserError, match="it changes as it is called"):
        certify_image(g, torch.full(SHAPE, 0.5), 0, PLAN)


@pytest.mark.parametrize("value", [torch.nan, -torch.inf])
def test_weights_that_are_not_finite_are_refused_without_a_file(value: float) -> None:
    layers = (nn.Conv2d(SHAPE[0], 2, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3))
    classifier = nn.Sequential(*layers)
    classifier(torch.zeros(1, *SHAPE))
    layers[0].bias.data[0] = value  # a ReLU makes 0 of -infinity
    g = smooth(classifier)
    with pytest.raises(UserError, match=r"the classifier: 0\.bias has 1 of 2 numbers"):
        certify_image(g, torch.full(SHAPE, 0.5), 0, PLAN)


def test_tune_refuses_it_too() -> None:
    f = smooth(STRUCTURAL["batch mean"]).f
    tasks = [Task(torch.full(SHAPE, 0.5), NoiseKey(0, "tune", "", "", 0))]
    sweep = Sweep(f, [Setting(0.0, 1), Setting(0.2, 2)], 42)
    with pytest.raises(UserError, match="not one function of each image"):
        list(certify_settings(sweep, PLAN, tasks, None, lambda votes: None))  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [2, 3, 7, 50])
def test_arrangements_move_every_row_and_keep_half(count: int) -> None:
    moved, among, alone = arrangements(count)
    assert sorted(moved.source.tolist()) == list(range(count))
    place, seen = 0, set()
    while place not in seen:  # one cycle through all places
        seen.add(place)
        place = int(moved.source[place])
    assert len(seen) == count
    both = moved_among_strangers(count)
    assert not alone.source.any()
    for one in (among, both):
        assert len(one.kept) == count // 2
    assert torch.equal(among.source[among.kept], among.kept)
    assert not (both.source[both.kept] == both.kept).any()


def test_differences_know_what_is_no_number() -> None:
    nan, inf = torch.nan, torch.inf
    one = torch.tensor([[1.0, nan], [-inf, 2.0], [nan, 1.0], [1.0, 1.0]])
    other = torch.tensor([[1.0, nan], [-inf, 2.0], [0.0, 1.0], [1.0, 2.0]])
    assert difference_of_rows(one, other).tolist() == [0, 0, inf, 0.5]


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (lambda noisy: noisy.clamp(0, 1), []),
        (lambda noisy: 1.4 * noisy.clamp(0, 1), []),  # beyond, as networks' images may be
        (lambda noisy: 2 * noisy.clamp(0, 1) - 1, ["between -1 and 1,"]),
        (lambda noisy: 255 * noisy.clamp(0, 1), ["between 0 and 2.6e+02,"]),
    ],
)
def test_a_denoiser_of_another_range_is_told(
    made: Callable[[Tensor], Tensor], told: list[str]
) -> None:
    said: list[str] = []
    ensure_fixed(
        smooth(Head(), purifier=OneShotPurifier(lambda x, sigma: made(x))), say=said.append
    )
    assert [words for words, line in zip(told, said, strict=True) if words in line] == told


def test_another_number_of_classes_is_found_before_the_votes() -> None:
    with pytest.raises(UserError, match="the classifier has 3 classes, not 4"):
        ensure_fixed(smooth(Head(), classes=4))
