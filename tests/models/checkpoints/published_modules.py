"""Re-statements of the networks that published code builds, by their modules' names alone.

Each takes what the code's own files say: `locuslab/smoothing` code/architectures.py,
code/datasets.py and code/archs/cifar_resnet.py (and the same files of
`Hadisalman/smoothing-adversarial` and `javyduck/DiffSmooth`), `RuntianZ/macer` model.py.
"""

import timm
import torch
from torch import Tensor, nn
from torchvision.models.resnet import resnet50

CIFAR10_MEAN, CIFAR10_STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Standardised(nn.Module):
    """NormalizeLayer: its numbers are attributes, and no part of the state dict."""

    def __init__(self, means: tuple[float, ...], sds: tuple[float, ...]) -> None:
        super().__init__()
        self.means, self.sds = torch.tensor(means), torch.tensor(sds)

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.means[:, None, None]) / self.sds[:, None, None]


class Centred(nn.Module):
    """InputCenterLayer."""

    def __init__(self, means: tuple[float, ...]) -> None:
        super().__init__()
        self.means = torch.tensor(means)

    def forward(self, x: Tensor) -> Tensor:
        return x - self.means[:, None, None]


class Block(nn.Module):
    """A basic block, whose `downsample` is None where the shape stays."""

    def __init__(self, into: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(into, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.downsample = None
        if into != out:
            self.downsample = nn.Sequential(
                nn.Conv2d(into, out, 1, stride, bias=False), nn.BatchNorm2d(out)
            )

    def forward(self, x: Tensor) -> Tensor:
        h = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        return (h + (x if self.downsample is None else self.downsample(x))).relu()


class PublishedResNet(nn.Module):
    """The CIFAR ResNet; it averages 8 x 8 pixels, and so takes images of 32 x 32 alone."""

    def __init__(self, depth: int, num_classes: int) -> None:
        super().__init__()
        n = (depth - 2) // 6
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        for stage, (into, out) in enumerate(((16, 16), (16, 32), (32, 64)), 1):
            first = Block(into, out, 1 if stage == 1 else 2)
            rest = [Block(out, out, 1) for _ in range(n - 1)]
            self.add_module(f"layer{stage}", nn.Sequential(first, *rest))
        self.avgpool = nn.AvgPool2d(8)
        self.fc = nn.Linear(64, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn1(self.conv1(x)).relu()
        for stage in (1, 2, 3):
            x = self.get_submodule(f"layer{stage}")(x)
        return self.fc(self.avgpool(x).view(len(x), -1))


def published_architecture(arch: str, dataset: str, centred: bool = False) -> nn.Sequential:
    """What get_architecture(arch, dataset) makes; `centred` with smoothing-adversarial's layer."""
    if arch == "beit_large_patch16_224" and dataset == "imagenet":
        half = (0.5, 0.5, 0.5)
        beit = with_persistent_tables(timm.create_model(arch, pretrained=False))
        return nn.Sequential(Standardised(half, half), beit)
    network: nn.Module
    if arch == "resnet50" and dataset == "imagenet":
        network = nn.DataParallel(resnet50(weights=None))
    else:
        depth, classes = {
            "cifar_resnet20": (20, 10),
            "cifar_resnet110": (110, 10),
            "imagenet32_resnet110": (110, 1000),
        }[arch]
        network = PublishedResNet(depth, classes)
    means, sds = {
        "cifar10": (CIFAR10_MEAN, CIFAR10_STD),
        "imagenet32": (CIFAR10_MEAN, CIFAR10_STD),
        "imagenet": (IMAGENET_MEAN, IMAGENET_STD),
    }[dataset]
    return nn.Sequential(Centred(means) if centred else Standardised(means, sds), network)


def with_persistent_tables(beit: nn.Module) -> nn.Module:
    """A BEiT whose tables of positions are part of the state dict, as in timm 0.9.5
    (models/beit.py, Attention; `javyduck/DiffSmooth` requirements.txt asks for that version)."""
    for module in beit.modules():
        if hasattr(module, "relative_position_index"):
            table = module.relative_position_index
            module.register_buffer("relative_position_index", table, persistent=True)
    return beit
