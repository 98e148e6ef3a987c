import pytest
import torch
from fused_unets import unets
from torch import Tensor, nn

from diffsmooth.golden.fill import fill
from diffsmooth.models import IdentityPurifier, LocalSmoothing, OneShotPurifier, build_unet
from diffsmooth.models.diffusion.presets import get_preset
from diffsmooth.models.diffusion.unet import AttentionBlock, FilmNorm, SiLU
from diffsmooth.models.kernels.group_norm import REVISION
from diffsmooth.models.smoothing import fused_norm
from diffsmooth.models.smoothing.fused_norm import FusedNorm, fuse_norms
from diffsmooth.models.smoothing.inference import prepare
from diffsmooth.models.smoothing.vote_function import VoteFunction
from diffsmooth.pipeline import device as device_choices
from diffsmooth.pipeline.device import choose_norms
from diffsmooth.pipeline.self_test import SMALL_UNETS
from diffsmooth.stats.errors import UserError

CPU = torch.device("cpu")


@pytest.mark.parametrize("family", SMALL_UNETS)
@pytest.mark.parametrize("times", [[7.0], [7.0, 90.0]])
@pytest.mark.parametrize("bf16", [False, True])
def test_on_a_cpu_it_is_the_same_to_the_last_bit(
    family: str, times: list[float], bf16: bool
) -> None:
    unet, fused = unets(family)
    x, t = torch.randn(2, unet.config.in_channels, 32, 32), torch.tensor(times)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        assert torch.equal(fused(x, t), unet(x, t))


@pytest.mark.parametrize("family", SMALL_UNETS)
def test_all_norms_are_fused_and_all_silus_behind_them(family: str) -> None:
    _, fused = unets(family)
    assert not any(type(module) in (FilmNorm, SiLU) for module in fused.modules())
    norms = [module for module in fused.modules() if isinstance(module, FusedNorm)]
    attending = sum(isinstance(module, AttentionBlock) for module in fused.modules())
    assert sum(not norm.silu for norm in norms) == attending
    assert not any(module.training for module in fused.modules())


@pytest.mark.parametrize("family", SMALL_UNETS)
def test_every_module_computes_by_being_called(family: str) -> None:
    _, fused = unets(family)
    fired = set()
    for name, module in fused.named_modules():
        if not isinstance(module, nn.ModuleList):
            module.register_forward_hook(lambda *_, name=name: fired.add(name))
    with torch.inference_mode():
        fused(torch.randn(1, fused.config.in_channels, 32, 32), torch.tensor([7.0]))
    assert fired == {name for name, _ in fused.named_modules()} - {"input_blocks", "output_blocks"}


@pytest.mark.parametrize("family", SMALL_UNETS)
def test_gradients_are_those_of_the_plain_network(family: str) -> None:
    """To the input, which attacks take, and to the weights."""
    found = []
    for unet in unets(family):
        x = torch.linspace(-1, 1, 3 * 16 * 16).view(1, 3, 16, 16).requires_grad_()
        unet(x, torch.tensor([7.0])).square().sum().backward()
        found.append([x.grad, *(parameter.grad for parameter in unet.parameters())])
    for plain, fused in zip(*found, strict=True):
        assert plain is not None
        assert torch.equal(plain, fused)


def test_a_layer_of_another_kind_stays() -> None:
    class Own(FilmNorm):
        pass

    class Gate(SiLU):
        pass

    layers = nn.Sequential(Own(2, 4), SiLU(), FilmNorm(2, 4), Gate(), FilmNorm(2, 4))
    fuse_norms(layers)
    assert [type(layer) for layer in layers] == [Own, SiLU, FusedNorm, Gate, FusedNorm]
    assert not any(layer.silu for layer in layers if isinstance(layer, FusedNorm))


class Mean(nn.Module):
    """A classifier of two classes."""

    def forward(self, x: Tensor) -> Tensor:
        level = x.mean(dim=(1, 2, 3))
        return torch.stack([level, -level], dim=1)


def tiny(purified: bool = True) -> VoteFunction:
    torch.manual_seed(0)
    preset = get_preset("small-gray32")
    unet = build_unet("small-gray32", channel_mult=(1,))
    unet.load_state_dict(fill(unet.state_dict()))
    purifier = OneShotPurifier(unet, preset.schedule) if purified else IdentityPurifier()
    return VoteFunction(purifier, LocalSmoothing(Mean(), 1, 0.0, (1, 16, 16)), 0.5, 2, batch=3)


def test_it_is_prepared_where_it_is_asked_for() -> None:
    noisy, found = torch.rand(3, 1, 16, 16), []
    for norm_kernel in (False, True):
        f = tiny()
        prepare(f, norm_kernel=norm_kernel)
        assert any(isinstance(module, FusedNorm) for module in f.modules()) == norm_kernel
        with torch.inference_mode():
            found.append(f(noisy))
    assert torch.equal(*found)


def test_the_kernel_is_given_what_the_layers_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    _, fused = unets("improved")
    given = []

    def spy(x: Tensor, groups: int, *rest: object) -> Tensor:
        given.append((groups, *rest))
        return x

    monkeypatch.setattr(fused_norm, "takes", lambda x: True)
    monkeypatch.setattr(fused_norm, "group_norm", spy)
    with torch.inference_mode():
        fused(torch.randn(1, 3, 32, 32), torch.tensor([7.0]))
    norms = {
        id(module.weight): module for module in fused.modules() if isinstance(module, FusedNorm)
    }
    assert len(given) == len(norms)
    for groups, weight, bias, eps, condition, silu in given:
        norm = norms[id(weight)]
        assert (groups, eps, silu) == (norm.num_groups, norm.eps, norm.silu)
        assert bias is norm.bias
        assert condition is None or condition.shape == (1, 2 * norm.num_channels)


def test_what_computes_norms_is_chosen_by_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    f = tiny()
    assert choose_norms(None, f, CPU, compiled=False) == ""
    assert choose_norms("", f, CPU, compiled=False) == ""
    with pytest.raises(UserError, match="by a kernel that cannot run here: they are of NVIDIA's"):
        choose_norms(REVISION, f, CPU, compiled=False)
    with pytest.raises(UserError, match="the run's group norms are by 'triton 0', here it is "):
        choose_norms("triton 0", f, CPU, compiled=False)
    monkeypatch.setattr(device_choices, "lacking", lambda device: "")
    assert choose_norms(None, f, CPU, compiled=False) == REVISION
    assert choose_norms(None, f, CPU, compiled=True) == ""  # inductor's
    assert choose_norms(None, tiny(purified=False), CPU, compiled=False) == ""
    assert choose_norms("", f, CPU, compiled=False) == ""  # a run of before there was one
    assert choose_norms(REVISION, f, CPU, compiled=False) == REVISION
