"""The CIFAR ResNets for inference: batch norms folded, activations and sums in the convolutions."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from diffsmooth.models.cifar_resnet import BasicBlock, CifarResNet


class FusedConv(nn.Module):
    """relu(batch norm(convolution(x)) + plus), each but the convolution optional, as one operation.

    Args:
        conv: the convolution.
        norm: folded into it, exactly: its statistics are fixed in eval mode.
        relu: whether there is one.
    """

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d, relu: bool = True) -> None:
        super().__init__()
        folded = fuse_conv_bn_eval(conv.eval(), norm.eval())
        assert folded.bias is not None
        self.weight = nn.Parameter(folded.weight.detach(), requires_grad=False)
        self.bias = nn.Parameter(folded.bias.detach(), requires_grad=False)
        self.window: tuple[Any, ...] = (conv.padding, conv.stride, conv.dilation, conv.groups)
        self.relu = relu
        # What torch's own compiler calls for frozen weights.
        self.onednn = conv.weight.device.type == "cpu" and torch.backends.mkldnn.is_available()

    def forward(self, x: Tensor, plus: Tensor | None = None) -> Tensor:
        """x (B, into, H, W) in the weights' number format; plus, like the result."""
        if self.onednn:
            return self._by_onednn(x, plus)
        padding, stride, dilation, groups = self.window
        h = F.conv2d(x, self.weight, self.bias, stride, padding, dilation, groups)
        if plus is not None:
            h = h + plus
        return F.relu(h) if self.relu else h

    def _by_onednn(self, x: Tensor, plus: Tensor | None) -> Tensor:
        relu = "relu" if self.relu else None
        op, weights = torch.ops.mkldnn._convolution_pointwise, (self.weight, self.bias)
        if plus is None:
            return op(x, *weights, *self.window, relu or "none", [], "")
        return op.binary(x, plus, *weights, *self.window, "add", 1.0, relu, [], "")


class FusedBlock(nn.Module):
    """A `BasicBlock`, two or three operations long."""

    def __init__(self, block: BasicBlock) -> None:
        super().__init__()
        self.conv1 = FusedConv(block.conv1, block.bn1)
        self.conv2 = FusedConv(block.conv2, block.bn2)
        self.downsample: nn.Module = nn.Identity()
        if isinstance(block.downsample, nn.Sequential):
            conv, norm = block.downsample
            assert isinstance(conv, nn.Conv2d)
            assert isinstance(norm, nn.BatchNorm2d)
            self.downsample = FusedConv(conv, norm, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1(x), self.downsample(x))


class FusedResNet(nn.Module):
    """A `CifarResNet` in eval mode."""

    def __init__(self, network: CifarResNet) -> None:
        super().__init__()
        self.conv1 = FusedConv(network.conv1, network.bn1)
        stages = (network.layer1, network.layer2, network.layer3)
        blocks = (block for stage in stages for block in stage if isinstance(block, BasicBlock))
        self.blocks = nn.Sequential(*map(FusedBlock, blocks))
        self.fc = network.fc

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, num_classes) of normalised images (B, in_channels, H, W)."""
        x = x.to(self.conv1.weight.dtype, memory_format=torch.channels_last)
        return self.fc(torch.mean(self.blocks(self.conv1(x)), dim=(2, 3)))
