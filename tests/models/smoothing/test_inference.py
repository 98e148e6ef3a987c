import copy
import math
from typing import Any

import pytest
import torch
from single_image import certify_image
from torch import Tensor, nn

from diffsmooth.models import (
    IdentityPurifier,
    LocalSmoothing,
    MultiStepPurifier,
    OneShotPurifier,
    build_classifier,
    build_unet,
)
from diffsmooth.models.checkpoints.denoisers import load_unet
from diffsmooth.models.checkpoints.loading import load_classifier
from diffsmooth.models.classifiers.architectures import Classifier
from diffsmooth.models.classifiers.cifar_resnet import CifarResNet
from diffsmooth.models.diffusion.presets import get_preset
from diffsmooth.models.smoothing import engine
from diffsmooth.models.smoothing.engine import VoteEngine
from diffsmooth.models.smoothing.fused import FusedResNet
from diffsmooth.models.smoothing.inference import prepare
from diffsmooth.models.smoothing.noise import NoiseKey
from diffsmooth.models.smoothing.noise_sources import noise_source
from diffsmooth.models.smoothing.packing import Task
from diffsmooth.models.smoothing.probe_batch import probe_rows
from diffsmooth.models.smoothing.purifiers import Purifier
from diffsmooth.models.smoothing.vote_function import VoteFunction
from diffsmooth.pipeline.device import WORTH_COMPILING, can_compile
from diffsmooth.stats import FixedSampleSize, GroupSequential

SHAPE = (1, 16, 16)
PURIFIERS = ("none", "oneshot", "multistep")


def tiny(purifier: str, precision: str = "float32", arch: str = "cifar_resnet8") -> VoteFunction:
    """f with small, live weights: the last layers of fresh networks are zero."""
    torch.manual_seed(0)
    unet = build_unet("small-gray32", channel_mult=(1,))
    classifier = build_classifier(arch, 10, "none").eval()
    classifier = nn.Sequential(nn.Conv2d(1, 3, 1), *classifier).eval()
    for module in (*unet.modules(), *classifier.modules()):
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.normal_(module.weight, 1.0, 0.1)
            nn.init.normal_(module.bias, std=0.1)
        if isinstance(module, nn.Conv1d | nn.Conv2d) and not module.weight.any():
            nn.init.normal_(module.weight, std=0.05)
    schedule = get_preset("small-gray32").schedule
    purifiers: dict[str, Purifier] = {
        "none": IdentityPurifier(),
        "oneshot": OneShotPurifier(unet, schedule),
        "multistep": MultiStepPurifier(unet, schedule, steps=2),
    }
    smoothing = LocalSmoothing(classifier, 2, 0.25, SHAPE)
    return VoteFunction(purifiers[purifier], smoothing, 0.5, 10, batch=6, precision=precision)


@torch.inference_mode()
def confidence(f: VoteFunction) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    noisy = torch.rand(f.batch, *SHAPE, generator=generator)
    draws = torch.randn(f.purifier.draws, f.batch, *SHAPE, generator=generator)
    return f(noisy, draws if len(draws) else None)


@pytest.mark.parametrize("purifier", PURIFIERS)
def test_in_float32_nothing_is_cast_and_the_function_is_the_same(purifier: str) -> None:
    f = tiny(purifier)
    expected = confidence(f)
    prepare(f)
    assert {value.dtype for value in f.state_dict().values()} <= {torch.float32, torch.int64}
    torch.testing.assert_close(confidence(f), expected, rtol=0, atol=1e-5)


class Cosine(nn.Module):
    """Uses its layer's weights outside the layer, where autocast leaves them in float32."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 4, 3)
        self.fc = nn.Linear(4, 10, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        features = self.convolution(x).mean(dim=(2, 3)).float()
        return (features[:, None] * nn.functional.normalize(self.fc.weight)).sum(dim=-1)


class Mixed(Cosine):
    """Where the cast weights would meet float32."""

    def forward(self, x: Tensor) -> Tensor:
        features = self.convolution(x).mean(dim=(2, 3)).float()
        return torch.addcmul(features[:, :1], features[:, :1], self.fc.weight.T[:1])


@pytest.mark.parametrize("network", [Cosine, Mixed])
def test_weights_that_a_strangers_network_uses_elsewhere_stay_as_they_are(network) -> None:
    torch.manual_seed(0)
    smoothing = LocalSmoothing(network().eval(), 2, 0.25, SHAPE)
    f = VoteFunction(IdentityPurifier(), smoothing, 0.5, 10, batch=6, precision="bf16")
    expected = confidence(f)
    prepare(f)
    assert torch.equal(confidence(f), expected)
    assert {value.dtype for value in f.parameters()} == {torch.float32}


@pytest.mark.parametrize("make", ["vit", "timm"])
def test_weights_of_libraries_networks_are_cast_once(make: str) -> None:
    torch.manual_seed(0)
    if make == "vit":
        transformers = pytest.importorskip("transformers")
        config = transformers.ViTConfig(
            hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
            image_size=16, patch_size=8, num_channels=1, num_labels=10,
        )  # fmt: skip
        network = Classifier(nn.Identity(), transformers.ViTForImageClassification(config))
    else:
        network = build_classifier("resnet10t", 10, "none", "fashion_mnist")
    smoothing = LocalSmoothing(network.eval(), 2, 0.25, SHAPE)
    f = VoteFunction(IdentityPurifier(), smoothing, 0.5, 10, batch=6, precision="bf16")
    expected = confidence(f)
    prepare(f)
    assert torch.equal(confidence(f), expected)
    cast = [m.weight.dtype for m in f.modules() if type(m) in (nn.Linear, nn.Conv2d)]
    assert cast
    assert {*cast} == {torch.bfloat16}


@pytest.mark.parametrize("purifier", PURIFIERS)
def test_in_bf16_the_weights_of_layers_are_cast_once(purifier: str) -> None:
    f = tiny(purifier, "bf16")
    expected = confidence(f)
    prepare(f)
    for name, module in f.named_modules():
        for key, value in module.named_parameters(recurse=False):
            is_norm = isinstance(module, nn.GroupNorm)
            assert value.dtype == (torch.float32 if is_norm else torch.bfloat16), f"{name}.{key}"
    assert f.local_smoothing.noise.dtype == torch.float32
    torch.testing.assert_close(confidence(f), expected, rtol=0, atol=0.02)


def test_folding_is_exact_on_random_running_statistics() -> None:
    torch.manual_seed(0)
    network = CifarResNet(14).double().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.2, 3.0)
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    x = torch.randn(3, 3, 32, 32)
    fused = FusedResNet(copy.deepcopy(network).float())
    with torch.inference_mode():
        expected, logits = network(x.double()), fused(x)
    scale = float(expected.abs().max())
    torch.testing.assert_close(logits.double() / scale, expected / scale, rtol=0, atol=1e-5)


def hooked(network: CifarResNet) -> None:
    network.layer2.register_forward_hook(lambda module, args, out: out * 1.5)


def shifted(network: CifarResNet) -> None:
    network.register_forward_pre_hook(lambda module, args: ((args[0] - 0.5) / 0.25,))


def reflecting(network: CifarResNet) -> None:
    network.conv1.padding_mode = "reflect"
    network.conv1._reversed_padding_repeated_twice = [1, 1, 1, 1]


def grouped(network: CifarResNet) -> None:
    network.bn1 = nn.GroupNorm(4, 16)


def normalised(network: CifarResNet) -> None:
    nn.utils.parametrizations.spectral_norm(network.layer1[0].conv1).eval()


def overridden(network: CifarResNet) -> None:
    network.layer3[0].forward = lambda x: nn.functional.avg_pool2d(x.repeat(1, 2, 1, 1), 2)


def without_layers(network: CifarResNet) -> None:
    network.layer1[0] = nn.Identity()


@pytest.mark.parametrize(
    "change", [hooked, shifted, reflecting, grouped, normalised, overridden, without_layers]
)
def test_a_network_of_ours_that_somebody_changed_votes_as_they_made_it(change: Any) -> None:
    f = tiny("none")
    network = f.local_smoothing.classifier[-1]
    before = f(probe_rows(f)[0].noisy)
    change(network)
    changed = f(probe_rows(f)[0].noisy)
    prepare(f)
    assert not torch.allclose(changed, before, atol=1e-3)  # so that the test could fail
    assert torch.allclose(f(probe_rows(f)[0].noisy), changed, atol=1e-6)


def test_a_last_layer_of_ones_own_is_called_and_the_rest_fused() -> None:
    f = tiny("none")
    network = f.local_smoothing.classifier[-1]
    network.fc = nn.Sequential(nn.Linear(64, 10), nn.Tanh())
    expected = f(probe_rows(f)[0].noisy)
    prepare(f)
    assert any(isinstance(module, FusedResNet) for module in f.modules())
    assert torch.allclose(f(probe_rows(f)[0].noisy), expected, atol=1e-6)


class Head(nn.Module):
    """A layer of a user's own behind our network, kept from bf16, with it or alone."""

    def __init__(self, with_network: bool) -> None:
        super().__init__()
        self.network = nn.Sequential(CifarResNet(8, 10, 1))
        self.head, self.with_network = nn.Linear(10, 10), with_network

    def forward(self, x: Tensor) -> Tensor:
        if self.with_network:
            with torch.autocast(x.device.type, enabled=False):
                return self.head(self.network(x))
        features = self.network(x)
        with torch.autocast(x.device.type, enabled=False):
            return self.head(features.float())


@pytest.mark.parametrize("with_network", [True, False])
def test_a_head_that_is_kept_from_bf16_stays_what_it_is(with_network: bool) -> None:
    head = Head(with_network).eval()
    smoothing = LocalSmoothing(head, 1, 0.0, SHAPE)
    f = VoteFunction(IdentityPurifier(), smoothing, 0.5, 10, batch=6, precision="bf16")
    expected = f(probe_rows(f)[0].noisy)
    prepare(f)
    assert head.head.weight.dtype == torch.float32
    assert torch.allclose(f(probe_rows(f)[0].noisy).float(), expected.float(), atol=0.05)


def test_networks_that_it_does_not_know_keep_their_batch_norms() -> None:
    f = tiny("none", arch="resnet10t")
    expected = confidence(f)
    prepare(f)
    assert any(isinstance(module, nn.BatchNorm2d) for module in f.modules())
    torch.testing.assert_close(confidence(f), expected, rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "batch"), [("float32", 7), ("float32", 50), ("bf16", 7)])
def test_a_rows_outcome_depends_on_neither_its_place_nor_its_neighbours(
    precision: str, batch: int
) -> None:
    unet = load_unet("checkpoints/fashion_mnist_diffusion.pt")
    classifier = load_classifier("checkpoints/fashion_mnist_gaussian_0.25.pt")
    shape = (1, 32, 32)
    purifier = OneShotPurifier(unet, get_preset("small-gray32").schedule)
    smoothing = LocalSmoothing(classifier, 3, 0.25, shape)
    f = VoteFunction(purifier, smoothing, 0.5, 10, batch, precision)
    prepare(f)
    check_rows_alone(f, torch.rand(batch, *shape, generator=torch.Generator().manual_seed(0)))


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_nor_does_it_in_classifiers_with_group_norms(precision: str) -> None:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for channels in (3, 64, 64):
        layers += [nn.Conv2d(channels, 64, 3, padding=1), nn.GroupNorm(32, 64), nn.ReLU()]
    classifier = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
    shape, batch = (3, 32, 32), 7
    smoothing = LocalSmoothing(classifier.eval(), 3, 0.25, shape)
    f = VoteFunction(IdentityPurifier(), smoothing, 0.5, 10, batch, precision)
    prepare(f)
    noisy = torch.rand(batch, *shape, generator=torch.Generator().manual_seed(0))
    for layout in (torch.contiguous_format, torch.channels_last):  # as a U-Net leaves them
        check_rows_alone(f, noisy.contiguous(memory_format=layout))


@torch.inference_mode()
def check_rows_alone(f: VoteFunction, noisy: Tensor) -> None:
    expected = f(noisy)
    order = torch.randperm(len(noisy), generator=torch.Generator().manual_seed(1))
    assert torch.equal(f(noisy[order]), expected[order])
    for row in (0, len(noisy) // 2, len(noisy) - 1):
        others = torch.rand_like(noisy)
        others[row] = noisy[0]
        assert torch.equal(f(others)[row], expected[0])


@pytest.mark.skipif(
    bool(can_compile(torch.device("cpu"))), reason=can_compile(torch.device("cpu")) or "it can"
)
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_compiled_equals_eager(precision: str) -> None:
    f, compiled = tiny("oneshot", precision), tiny("oneshot", precision)
    prepare(f)
    prepare(compiled, compiled=True)
    tolerance = 1e-5 if precision == "float32" else 0.02
    torch.testing.assert_close(confidence(compiled), confidence(f), rtol=0, atol=tolerance)
    check_rows_alone(compiled, torch.rand(f.batch, *SHAPE))


def test_each_compiled_part_is_one_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of which CUDA launches everything at once. As on CUDA: no convolutions of oneDNN's."""
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    f, graphs = tiny("oneshot"), list[torch.fx.GraphModule]()

    def compile_as(part: nn.Module, **how: Any) -> None:
        def backend(graph: torch.fx.GraphModule, example: object) -> Any:
            graphs.append(graph)
            return graph.forward

        part._compiled_call_impl = torch.compile(part._call_impl, backend=backend, fullgraph=True)

    monkeypatch.setattr(nn.Module, "compile", compile_as)
    expected = confidence(copy.deepcopy(f))
    prepare(f, compiled=True)
    torch._dynamo.reset()
    torch.testing.assert_close(confidence(f), expected, rtol=0, atol=1e-5)
    assert len(graphs) == 2  # the U-Net, and the local copies with the classifier


@pytest.mark.skipif(
    bool(can_compile(torch.device("cpu"))), reason=can_compile(torch.device("cpu")) or "it can"
)
@pytest.mark.parametrize("purifier", PURIFIERS)
def test_no_batch_of_a_run_is_compiled_anew(purifier: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the last one, which is padded, nor those of the checks: on a GPU each takes a minute."""
    monkeypatch.setattr(engine, "SPOT_CHECK", 2)
    f = tiny(purifier, arch="resnet10t")  # nothing of the U-Net's and of this one's is left out
    torch._dynamo.reset()  # other tests' networks have the same code
    with torch._dynamo.config.patch(error_on_recompile=True):
        prepare(f, compiled=True)
        images = [torch.full(SHAPE, level / 255) for level in (0, 100, 255)]
        with VoteEngine(f, GroupSequential(n0=5, n=40), noise_source("integer", f.device)) as run:
            for index, image in enumerate(images):
                run.submit(Task(image, NoiseKey(0, "certify", "d", "test", index)))
            finished = list(run.drain())
    assert [one.error for one in finished] == [None] * 3


def test_what_pays_follows_from_the_work_alone() -> None:
    assert 1.9e10 * 1e5 < WORTH_COMPILING["cuda"] <= 1.9e10 * 1e7
    assert WORTH_COMPILING["cpu"] == math.inf


def test_a_device_that_nobody_tried_cannot_compile() -> None:
    assert can_compile(torch.device("meta")) == "not tried on meta"


def test_prepared_networks_certify() -> None:
    f = tiny("oneshot")
    g = VoteFunction(f.purifier, f.local_smoothing, 0.5, 10, batch=6)
    before = certify_image(g, torch.full(SHAPE, 0.5), 0, FixedSampleSize(6, 30))
    prepare(g.f)
    after = certify_image(g, torch.full(SHAPE, 0.5), 0, FixedSampleSize(6, 30))
    assert after.prediction == before.prediction
