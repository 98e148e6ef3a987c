"""What is not finite is no vote: refused in weights, and never hidden in what computes."""

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from single_image import certify_image
from test_inference import SHAPE, tiny
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from diffsmooth.models import (
    IdentityPurifier,
    LocalSmoothing,
    OneShotPurifier,
    build_classifier,
)
from diffsmooth.models.diffusion.presets import get_preset
from diffsmooth.models.smoothing.finite import LARGEST_OUTPUT, check_finite_weights
from diffsmooth.models.smoothing.fused import FusedConv, FusedResNet
from diffsmooth.models.smoothing.inference import prepare
from diffsmooth.models.smoothing.local_smoothing import NetworkError
from diffsmooth.models.smoothing.vote_function import VoteFunction
from diffsmooth.pipeline.device import can_compile
from diffsmooth.stats import FixedSampleSize
from diffsmooth.stats.errors import UserError

PRECISIONS = ("float32", "bf16")
no_compiler = pytest.mark.skipif(
    bool(can_compile(torch.device("cpu"))), reason=can_compile(torch.device("cpu")) or "it can"
)


def alone(network: nn.Module, precision: str = "float32") -> VoteFunction:
    """Cohen's method, with two local copies."""
    smoothing = LocalSmoothing(network.eval(), 2, 0.25, SHAPE)
    return VoteFunction(IdentityPurifier(), smoothing, 0.5, 10, batch=6, precision=precision)


def transformer(precision: str) -> VoteFunction:
    torch.manual_seed(0)
    network = VisionTransformer(
        img_size=16, patch_size=4, in_chans=1, num_classes=10, embed_dim=32, depth=1, num_heads=2
    )
    return alone(network, precision)


def mobile(precision: str) -> VoteFunction:
    """What MobileNets are made of: squashed on both sides, gated, pooled."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU6(), nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3, groups=8), nn.BatchNorm2d(8), nn.Hardswish(),
        nn.Conv2d(8, 16, 1), nn.Sigmoid(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(16, 16), nn.Hardtanh(), nn.Linear(16, 10),
    )  # fmt: skip
    return alone(network, precision)


KINDS: dict[str, Callable[[str], VoteFunction]] = {
    "resnet": lambda precision: tiny("none", precision),
    "oneshot": lambda precision: tiny("oneshot", precision),
    "multistep": lambda precision: tiny("multistep", precision),
    "transformer": transformer,
    "mobile": mobile,
}


@torch.inference_mode()
def answers(f: VoteFunction) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    noisy = torch.rand(f.batch, *SHAPE, generator=generator)
    draws = torch.randn(f.purifier.draws, f.batch, *SHAPE, generator=generator)
    return f.answer(noisy, lambda _: draws if len(draws) else None)


def planted(f: VoteFunction, key: str, value: float) -> VoteFunction:
    """A copy of f with a value in the middle of one tensor."""
    f = copy.deepcopy(f)
    tensor = f.state_dict()[key]
    tensor[tuple(size // 2 for size in tensor.shape)] = value
    return f


def keys_of(f: VoteFunction) -> list[str]:
    return [key for key, value in f.state_dict().items() if value.is_floating_point()]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_weights_that_are_not_finite_are_refused_by_name(kind: str) -> None:
    f = KINDS[kind]("float32")
    for i, key in enumerate(keys_of(f)):
        name = key.removeprefix("local_smoothing.classifier.").removeprefix("purifier.")
        with pytest.raises(UserError, match=rf"{name} has 1 of \d+ numbers that are not finite"):
            prepare(planted(f, key, (math.nan, math.inf, -math.inf)[i % 3]))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_where_weights_are_huge_f_is_refused_or_is_the_same(kind: str, precision: str) -> None:
    f = KINDS[kind](precision)
    reasons: list[str] = []
    for key in keys_of(f)[:: 1 if (1 + f.purifier.draws) * len(keys_of(f)) < 50 else 7]:
        huge = planted(f, key, 1e30)
        expected = answers(huge)
        try:
            prepare(huge)
        except UserError as error:
            reasons.append(str(error))
        else:
            assert torch.equal(answers(huge), expected), key
    assert reasons
    assert all(reason.endswith(f"at most {LARGEST_OUTPUT:g}") for reason in reasons)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("kind", ["resnet", "oneshot", "mobile"])
def test_what_arises_in_votes_reaches_the_counts_without_the_checks(
    kind: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if it were none of the weights' doing: wherever the networks as loaded say NaN."""
    monkeypatch.setattr(
        "diffsmooth.models.smoothing.inference.check_finite_weights", lambda *_: None
    )
    monkeypatch.setattr("diffsmooth.models.smoothing.inference._try_out", lambda _: None)
    monkeypatch.setattr("diffsmooth.models.smoothing.fused.check_finite", lambda *_: None)
    f, seen = KINDS[kind](precision), 0
    keys = keys_of(f)[:: 1 if len(keys_of(f)) < 50 else 5]
    for i, key in enumerate(keys):
        broken = planted(f, key, (math.nan, math.inf, math.nan, -math.inf)[i % 4])
        expected = answers(broken) == f.num_classes
        prepare(broken)
        assert (answers(broken) == f.num_classes)[expected].all(), key
        seen += int(expected.any())
    assert seen > len(keys) // 2


def test_a_resnet_of_nan_certifies_nothing() -> None:
    """oneDNN's fused ReLU made zeros of it, and all votes for one class of them."""
    network = build_classifier("cifar_resnet8", 10, "none")
    nn.init.constant_(network[1].conv1.weight, math.nan)  # type: ignore[arg-type]
    g = VoteFunction(IdentityPurifier(), LocalSmoothing(network), 0.5, 10, batch=6)
    noisy = torch.full((6, 3, 32, 32), 0.5)
    assert (g.f.answer(noisy, lambda _: None) == g.f.num_classes).all()
    for start in (
        lambda: certify_image(g, noisy[0], 0, FixedSampleSize(6, 30)),
        lambda: prepare(g.f),
    ):
        with pytest.raises(UserError, match=r"the classifier: 1\.conv1\.weight has 432 of 432 num"):
            start()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("relu", [True, False])
def test_a_fused_convolution_hides_nothing(value: float, dtype: torch.dtype, relu: bool) -> None:
    conv, norm = nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4)
    fused = FusedConv(conv, norm, "conv", relu).to(dtype)
    x = torch.rand(2, 2, 8, 8, dtype=dtype)
    broken = x.clone()
    broken[0, 0, 4, 4] = value
    plus = torch.zeros(2, 4, 8, 8, dtype=dtype)
    broken_plus = plus.clone()
    broken_plus[0, :, 3:6, 3:6] = value
    with torch.inference_mode():
        for output in (fused(broken), fused(broken, plus), fused(x, broken_plus)):
            assert not output[0, :, 3:6, 3:6].isfinite().any()
            assert output[1].isfinite().all()


def test_the_leak_is_lost_in_rounding() -> None:
    torch.manual_seed(0)
    network = build_classifier("cifar_resnet14", 10, "none")[1].eval()
    x = torch.randn(4, 3, 32, 32)
    fused = FusedResNet(copy.deepcopy(network))  # type: ignore[arg-type]
    with torch.inference_mode():
        leaking = fused(x)
        for module in fused.modules():
            if isinstance(module, FusedConv):
                module.forward = _exact(module)  # type: ignore[method-assign]
        assert torch.equal(leaking, fused(x))


def _exact(conv: FusedConv) -> Callable[..., Tensor]:
    """With a ReLU that does not leak."""

    def forward(x: Tensor, plus: Tensor | None = None) -> Tensor:
        op, weights = torch.ops.mkldnn._convolution_pointwise, (conv.weight, conv.bias)
        h = op(x, *weights, *conv.window, "none", [], "") if plus is None else op.binary(
            x, plus, *weights, *conv.window, "add", 1.0, None, [], ""
        )  # fmt: skip
        return h.relu() if conv.relu else h

    return forward if conv.onednn else conv.forward


@pytest.mark.parametrize("variance", [-1.0, -1e-6])
def test_negative_variances_are_refused(variance: float) -> None:
    f = tiny("none")
    key = "local_smoothing.classifier.2.layer2.0.bn1.running_var"
    with pytest.raises(UserError, match=r"2\.layer2\.0\.bn1\.running_var has a negative variance"):
        prepare(planted(f, key, variance))


def test_weights_that_overflow_when_they_are_folded_are_refused() -> None:
    network = build_classifier("cifar_resnet8", 10, "none")
    with torch.no_grad():
        network[1].layer1[0].bn2.weight[0] = 3e38  # type: ignore[index,union-attr]
        network[1].layer1[0].conv2.weight[0] = 3e3  # type: ignore[index,union-attr]
    check_finite_weights(network, "file.pt")
    with pytest.raises(UserError, match=r"x: layer1\.0\.conv2\.weight, with its batch norm folded"):
        FusedResNet(network[1].eval(), "x: ")  # type: ignore[arg-type]


def test_weights_that_overflow_in_bf16_are_refused() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(SHAPE[1] ** 2, 10))
    nn.init.zeros_(network[1].weight)  # type: ignore[arg-type]
    with torch.no_grad():
        network[1].weight[0, 0] = 3.4e38  # type: ignore[index,operator]
    with pytest.raises(
        UserError, match=r"1\.weight has 1 of 2560 .*not in bf16, such as 3\.4e\+38"
    ):
        check_finite_weights(network, "file.pt")


def test_masks_and_dead_channels_are_legitimate() -> None:
    class Masked(nn.Linear):
        def __init__(self) -> None:
            super().__init__(256, 10)
            self.register_buffer("mask", torch.tensor([0.0] * 9 + [-math.inf]))

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.flatten(1))

    class Classifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Masked()

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x) + self.inner.mask

    f = alone(Classifier())
    prepare(f)
    assert ((answers(f) >= 0) & (answers(f) < 9)).all()
    f = tiny("none")
    prepare(planted(f, "local_smoothing.classifier.2.layer2.0.bn1.running_var", 0.0))


class Says(nn.Module):
    """Fixed logits, whatever the image."""

    def __init__(self, *logits: float, rows: int = 0) -> None:
        super().__init__()
        self.register_buffer("logits", torch.tensor(logits))
        self.rows = rows

    def forward(self, x: Tensor) -> Tensor:
        return self.logits.expand(self.rows or len(x), -1) + 0 * x.sum()


class Named(Says):
    """A dict, as some networks give it."""

    def forward(self, x: Tensor) -> Any:
        return {"logits": x.flatten(1), "loss": None}


INF, NAN = math.inf, math.nan
ROWS = [(0.0, NAN), (0.0, INF), (-INF, -INF), (-INF, NAN), (0.0, -INF), (1.0, 0.0)]


@no_compiler
def test_compiled_local_smoothing_refuses_the_same_logits() -> None:
    images = torch.tensor(ROWS).view(-1, 1, 1, 2)
    smoothing = LocalSmoothing(nn.Flatten(), 2, 0.0, (1, 1, 2))
    smoothing.compile(dynamic=False)
    with torch.inference_mode():
        confidence = smoothing(images)
    assert confidence.isfinite().all(dim=1).tolist() == [False] * 4 + [True] * 2
    torch.testing.assert_close(confidence[4:], images[4:].flatten(1).softmax(dim=1))


@pytest.mark.parametrize(
    ("logits", "answer"),
    [((0.0, 1.0, -INF), 1), ((-INF, -INF, 3.0), 2), ((1e30, 0.0, -3e38), 0), ((NAN, 1.0, 0.0), 3),
     ((0.0, INF, 0.0), 3), ((-INF, -INF, -INF), 3), ((-INF, NAN, -INF), 3), ((INF, -INF, 0.0), 3)],
)  # fmt: skip
def test_logits_are_an_answer_if_the_largest_is_finite(
    logits: tuple[float, ...], answer: int
) -> None:
    f = VoteFunction(IdentityPurifier(), LocalSmoothing(Says(*logits), 3, 0.1, SHAPE), 0.5, 3)
    assert f.answer(torch.zeros(4, *SHAPE), lambda _: None).tolist() == [answer] * 4


def test_one_broken_copy_of_many_breaks_the_row_alone() -> None:
    class BreaksOnce(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            logits = x.flatten(1)[:, :3].clone()
            logits[4, 0] = INF  # the second copy of the second row
            return logits

    f = VoteFunction(IdentityPurifier(), LocalSmoothing(BreaksOnce(), 3, 0.1, SHAPE), 0.5, 3)
    got = f.answer(torch.rand(4, *SHAPE), lambda _: None)
    assert (got == 3).tolist() == [False, True, False, False]


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("channel", [0, 1])
def test_clamps_and_variances_of_the_purifier_hide_nothing(value: float, channel: int) -> None:
    class Unet(nn.Module):
        def forward(self, x: Tensor, *_: object) -> Tensor:
            output = torch.cat([x, x], dim=1)
            output[1, channel, 3, 3] = value
            return output

    schedule = get_preset("small-gray32").schedule
    kinds = [OneShotPurifier, lambda unet, schedule: _multistep(unet, schedule)]
    for build in kinds[channel:]:  # one step has no use for the variance
        purifier = build(Unet(), schedule)
        x = purifier(torch.rand(3, *SHAPE), 0.5, torch.randn(purifier.draws, 3, *SHAPE))
        assert not x[1].isfinite().all()
        assert x[0].isfinite().all()
        assert x[2].isfinite().all()


def _multistep(unet: nn.Module, schedule: object) -> OneShotPurifier:
    from diffsmooth.models import MultiStepPurifier

    return MultiStepPurifier(unet, schedule, steps=3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("network", "said"),
    [(Says(0.0, 1.0, rows=1), r"must be logits \(8, classes\), it is \(1, 2\)"),
     (nn.Identity(), r"it is \(8, 1, 16, 16\)"),
     (nn.Flatten(0), r"it is \(2048,\)"),
     (Says(0.0, 1j), "output is complex"),
     (nn.Sequential(nn.Flatten(), nn.LSTM(256, 2)), "it is tuple of 2: wrap it in a module whose "
      r"forward returns the logits alone, such as output\[0\]"),
     (Named(), r"it is dict of \['logits', 'loss'\]: .*alone, such as output\['logits'\]"),
     (Says(1.0), "has 1 class, not 2: labels count from 0")],
)  # fmt: skip
def test_outputs_of_other_shapes_are_no_votes(network: nn.Module, said: str) -> None:
    f = VoteFunction(IdentityPurifier(), LocalSmoothing(network, 2, 0.1, SHAPE), 0.5, 2)
    with pytest.raises(NetworkError, match=said):
        f.answer(torch.zeros(4, *SHAPE), lambda _: None)


@pytest.mark.slow
@no_compiler
def test_compiled_networks_hide_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "diffsmooth.models.smoothing.inference.check_finite_weights", lambda *_: None
    )
    monkeypatch.setattr("diffsmooth.models.smoothing.inference._try_out", lambda _: None)
    network = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3),
        nn.ReLU6(), nn.Hardswish(), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, 10),
    )  # fmt: skip
    f = alone(network)
    prepare(f, compiled=True)
    assert (answers(f) < 10).all()
    for key in ("0.weight", "1.running_var", "4.bias"):
        tensor = f.state_dict()[f"local_smoothing.classifier.{key}"]
        place = tuple(size // 2 for size in tensor.shape)
        before, tensor[place] = tensor[place].clone(), NAN
        assert (answers(f) == 10).all()
        tensor[place] = before
