import csv

import numpy as np
import pytest
import torch
from torch import nn

from diffsmooth.golden import FOLDER
from diffsmooth.golden.fill import fill
from diffsmooth.models import build_unet
from diffsmooth.models.diffusion.presets import get_preset
from diffsmooth.models.diffusion.unet import ResBlock
from diffsmooth.pipeline.self_test import SMALL_UNETS


@pytest.mark.parametrize(
    ("preset", "file", "parameters"),
    [
        ("improved-cifar10", "unet_cifar10_improved_keys.tsv", 52_546_438),
        ("guided-imagenet", "unet_imagenet_guided_keys.tsv", 552_814_086),
    ],
)
def test_keys_and_shapes_are_the_published_checkpoints(
    preset: str, file: str, parameters: int
) -> None:
    with torch.device("meta"):
        unet = build_unet(preset)
    mine = {key: "x".join(map(str, value.shape)) for key, value in unet.state_dict().items()}
    with open(FOLDER / file) as lines:
        published = dict(csv.reader(lines, delimiter="\t"))
    assert mine == published
    assert sum(p.numel() for p in unet.parameters()) == parameters


@pytest.mark.parametrize("family", SMALL_UNETS)
def test_outputs_equal_the_golden_ones(family: str) -> None:
    preset, overrides = SMALL_UNETS[family]
    unet = build_unet(preset, **overrides).eval()
    unet.load_state_dict(fill(unet.state_dict()))
    golden = np.load(FOLDER / f"unet_small_{family}.npz")
    times = get_preset(preset).schedule.network_time(torch.from_numpy(golden["t"]).float())
    with torch.inference_mode():
        output = unet(torch.from_numpy(golden["x"]), times)
    np.testing.assert_allclose(output.numpy(), golden["model_output"], atol=2e-4)


def test_a_time_for_all_rows_equals_a_time_for_each() -> None:
    unet = build_unet("small-gray32").eval()
    unet.load_state_dict(fill(unet.state_dict()))
    x = torch.randn(2, 1, 32, 32)
    with torch.inference_mode():
        shared, each = unet(x, torch.tensor([7.0])), unet(x, torch.tensor([7.0, 7.0]))
    torch.testing.assert_close(shared, each, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", SMALL_UNETS)
@pytest.mark.parametrize("times", [[7.0], [7.0, 90.0]])
@pytest.mark.parametrize("grad", [False, True])
def test_every_module_computes_by_being_called(family: str, times: list[float], grad: bool) -> None:
    preset, overrides = SMALL_UNETS[family]
    unet = build_unet(preset, **overrides).eval()
    fired = set()
    for name, module in unet.named_modules():
        if not isinstance(module, nn.ModuleList):
            module.register_forward_hook(lambda *_, name=name: fired.add(name))
    with torch.set_grad_enabled(grad):
        unet(torch.randn(2, unet.config.in_channels, 32, 32), torch.tensor(times))
    lists = {"input_blocks", "output_blocks"}
    assert fired == {name for name, _ in unet.named_modules()} - lists


class _Shift(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1


@pytest.mark.parametrize("family", SMALL_UNETS)
def test_a_layer_that_is_appended_is_used(family: str) -> None:
    preset, overrides = SMALL_UNETS[family]
    unet = build_unet(preset, **overrides).eval()
    unet.load_state_dict(fill(unet.state_dict()))
    block = next(m for m in unet.modules() if isinstance(m, ResBlock))
    x, times = torch.randn(1, unet.config.in_channels, 32, 32), torch.tensor([7.0])
    with torch.inference_mode():
        plain = unet(x, times)
        unet.out.append(_Shift())
        torch.testing.assert_close(unet(x, times), plain + 1)
        for layers in (block.in_layers, block.emb_layers, block.out_layers):
            before = unet(x, times)
            layers.append(_Shift())
            assert not torch.allclose(unet(x, times), before)


def test_unknown_presets_and_options_are_named() -> None:
    with pytest.raises(ValueError, match="unknown U-Net preset 'x': known are improved-cifar10"):
        build_unet("x")
    with pytest.raises(ValueError, match="unknown U-Net option widht"):
        build_unet("small-gray32", widht=3)
