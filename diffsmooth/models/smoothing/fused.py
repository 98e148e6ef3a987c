"""The CIFAR ResNets for inference: batch norms folded, activations and sums in the convolutions."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from diffsmooth.models.classifiers.cifar_resnet import BasicBlock, CifarResNet
from diffsmooth.models.smoothing.finite import check_finite

# oneDNN's ReLU makes 0 of NaN, its leaky one does not; and no ReLU but a leaky one keeps -infinity.
# Normal in float32 and bf16, and lost in rounding wherever outputs are below `LARGEST_OUTPUT`.
SLOPE = 1e-30


class FusedConv(nn.Module):
    """relu(batch norm(convolution(x)) + plus), the last two optional, as one or two operations.

    What is not finite in x, the sum or the result stays so.

    Args:
        conv, name: the convolution, and what errors call it.
        norm: folded into it, exactly: its statistics are fixed in eval mode.
        relu: whether there is one.

    Raises:
        UserError: weights that are not finite once the norm is folded into them.
    """

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d, name: str, relu: bool = True) -> None:
        super().__init__()
        folded = fuse_conv_bn_eval(conv.eval(), norm.eval())
        assert folded.bias is not None
        for key, weights in (("weight", folded.weight), ("bias", folded.bias)):
            check_finite(weights, f"{name}.{key}, with its batch norm folded in,")
        self.weight = nn.Parameter(folded.weight.detach(), requires_grad=False)
        self.bias = nn.Parameter(folded.bias.detach(), requires_grad=False)
        self.window: tuple[Any, ...] = (conv.padding, conv.stride, conv.dilation, conv.groups)
        self.relu = relu
        # What torch's own compiler calls for frozen weights.
        self.onednn = conv.weight.device.type == "cpu" and torch.backends.mkldnn.is_available()
        # Where a CPU has no bf16 for it, torch itself convolves in bf16, slowly.
        self.onednn_bf16 = self.onednn and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())

    def forward(self, x: Tensor, plus: Tensor | None = None) -> Tensor:
        """x (B, into, H, W) in the weights' number format; plus, like the result."""
        if self.onednn_bf16 if x.dtype == torch.bfloat16 else self.onednn:
            return self._by_onednn(x, plus)
        padding, stride, dilation, groups = self.window
        h = F.conv2d(x, self.weight, self.bias, stride, padding, dilation, groups)
        if plus is not None:
            h = h + plus
        return F.leaky_relu(h, SLOPE) if self.relu else h

    def _by_onednn(self, x: Tensor, plus: Tensor | None) -> Tensor:
        op, weights = torch.ops.mkldnn._convolution_pointwise, (self.weight, self.bias)
        if plus is None:
            after = ("leaky_relu", [SLOPE]) if self.relu else ("none", [])
            return op(x, *weights, *self.window, *after, "")
        # With a sum it takes no leaky ReLU.
        h = op.binary(x, plus, *weights, *self.window, "add", 1.0, None, [], "")
        return F.leaky_relu_(h, SLOPE) if self.relu else h


class FusedBlock(nn.Module):
    """A `BasicBlock`; `name` is its own, for errors."""

    def __init__(self, block: BasicBlock, name: str) -> None:
        super().__init__()
        self.conv1 = FusedConv(block.conv1, block.bn1, f"{name}.conv1")
        self.conv2 = FusedConv(block.conv2, block.bn2, f"{name}.conv2")
        self.downsample: nn.Module = nn.Identity()
        if isinstance(block.downsample, nn.Sequential):
            conv, norm = block.downsample
            assert isinstance(conv, nn.Conv2d)
            assert isinstance(norm, nn.BatchNorm2d)
            self.downsample = FusedConv(conv, norm, f"{name}.downsample.0", relu=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1(x), self.downsample(x))


class FusedResNet(nn.Module):
    """A `CifarResNet` in eval mode; `prefix` stands before its layers' names, in errors."""

    def __init__(self, network: CifarResNet, prefix: str = "") -> None:
        super().__init__()
        self.conv1 = FusedConv(network.conv1, network.bn1, f"{prefix}conv1")
        self.blocks = nn.Sequential(
            *(
                FusedBlock(block, prefix + place)
                for place, block in network.named_modules()
                if isinstance(block, BasicBlock)
            )
        )
        self.fc = network.fc

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, num_classes) of normalised images (B, in_channels, H, W)."""
        x = x.to(self.conv1.weight.dtype, memory_format=torch.channels_last)
        return self.fc(torch.mean(self.blocks(self.conv1(x)), dim=(2, 3)))
