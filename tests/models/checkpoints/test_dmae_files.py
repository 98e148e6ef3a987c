"""DMAE's networks against their published forward pass, written out here (models_vit.py)."""

from pathlib import Path

import pytest
import timm
import torch
from torch.nn.functional import interpolate

from diffsmooth.models.checkpoints.loading import load_classifier
from diffsmooth.models.classifiers import architectures
from diffsmooth.models.classifiers.dataset_info import get_dataset_info


@pytest.mark.parametrize(
    ("arch", "dataset", "mean", "std"),
    [
        ("dmae_cifar10", "cifar10", (0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)),
        ("dmae_imagenet", "imagenet", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ],
)
@torch.inference_mode()
def test_logits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arch: str, dataset: str, mean, std
) -> None:
    tiny = architectures.DMAE[arch]._replace(timm="vit_tiny_patch16_224")
    monkeypatch.setitem(architectures.DMAE, arch, tiny)
    torch.manual_seed(0)
    info = get_dataset_info(dataset)
    vit = timm.create_model(tiny.timm, num_classes=info.num_classes, global_pool="avg").eval()
    for parameter in vit.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    assert "fc_norm.weight" in vit.state_dict()
    assert "norm.weight" not in vit.state_dict()
    torch.save({"model": vit.state_dict(), "epoch": 3}, tmp_path / "checkpoint.pth")
    layer = architectures.own_input_layer(arch)
    model = load_classifier(tmp_path / "checkpoint.pth", arch, layer, info)

    noisy = torch.rand(2, *info.image_shape) + 0.25 * torch.randn(2, *info.image_shape)
    x = noisy
    if x.shape[-1] != 224:  # as torchvision resized tensors when it was published
        x = interpolate(x, (224, 224), mode="bicubic", align_corners=False)
    x = (x - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    x = vit.patch_embed(x)
    x = torch.cat([vit.cls_token.expand(len(x), -1, -1), x], dim=1) + vit.pos_embed
    for block in vit.blocks:
        x = block(x)
    wanted = vit.head(vit.fc_norm(x[:, 1:].mean(dim=1)))
    torch.testing.assert_close(model(noisy), wanted, atol=1e-4, rtol=1e-4)


def test_the_published_size() -> None:
    with torch.device("meta"):
        model = architectures.build_classifier("dmae_cifar10", 10, "none")
    assert sum(p.numel() for p in model.parameters()) == 85_806_346
