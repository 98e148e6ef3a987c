"""Modules as the field publishes them: the same weights, the published order of operations."""

import copy
from itertools import repeat

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffsmooth.models.classifiers.cifar_resnet import BasicBlock
from diffsmooth.models.classifiers.input_layers import Normalize
from diffsmooth.models.diffusion.unet import (
    AttentionBlock,
    FilmNorm,
    Pointwise,
    ResBlock,
    SiLU,
    UNet,
)


class PublishedUNet(UNet):
    """Embeds the time of each sample; each residual block takes its SiLU anew."""

    def forward(self, x: Tensor, times: Tensor) -> Tensor:  # type: ignore[override]
        embedding = repeat(self.embed_time(times))
        h = x
        skips = []
        for block in self.input_blocks:
            h = block(h, embedding)
            skips.append(h)
        h = self.middle_block(h, embedding)
        for block in self.output_blocks:
            h = block(torch.cat([h, skips.pop()], dim=1), embedding)
        return self.out(h)


class PublishedResBlock(ResBlock):
    """Scale and shift in separate operations."""

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h, x = self.in_layers(x), self.resample(x)
        scale, shift = self.emb_layers(embedding)[..., None, None].chunk(2, dim=1)
        norm, *layers = self.out_layers
        h = norm(h) * (1 + scale) + shift
        for layer in layers:
            h = layer(h)
        return self.skip_connection(x) + h


class PublishedAttention(AttentionBlock):
    """Attention weights in full, between 1 x 1 convolutions over (B, C, pixels)."""

    def forward(self, x: Tensor) -> Tensor:
        b, c, height, width = x.shape
        flat = x.reshape(b, c, -1)
        qkv = self.qkv(self.norm(flat))
        depth = c // self.heads
        q, k, v = qkv.reshape(b * self.heads, 3 * depth, -1).split(depth, dim=1)
        scale = depth**-0.25  # on both, which is the safer in float16
        weights = torch.einsum("bci,bcj->bij", q * scale, k * scale)
        weights = torch.softmax(weights.float(), dim=-1).type(weights.dtype)
        h = torch.einsum("bij,bcj->bci", weights, v).reshape(b, c, -1)
        return (flat + self.proj_out(h)).reshape(b, c, height, width)


class PublishedGroupNorm(nn.GroupNorm):
    """Normalises in float32, whatever it is given."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.float()).type(x.dtype)


class PublishedSiLU(nn.SiLU):
    """SiLU by two operations, as in improved-diffusion; guided-diffusion uses PyTorch's."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(x)


class PublishedBasicBlock(BasicBlock):
    """Works in place where it can."""

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.bn1(self.conv1(x)), inplace=True)
        h = self.bn2(self.conv2(h))
        h += self.downsample(x)
        return F.relu(h, inplace=True)


class PublishedNormalize(Normalize):
    """Repeats mean and std to the whole batch's shape."""

    def forward(self, x: Tensor) -> Tensor:
        b, _, height, width = x.shape
        mean, std = (
            value.flatten().repeat((b, height, width, 1)).permute(0, 3, 1, 2)
            for value in (self.mean, self.std)
        )
        return (x - mean) / std


Forms = dict[type[nn.Module], type[nn.Module]]
UNET_FORMS: Forms = {
    UNet: PublishedUNet,
    ResBlock: PublishedResBlock,
    AttentionBlock: PublishedAttention,
    Pointwise: nn.Conv1d,
    FilmNorm: PublishedGroupNorm,
    SiLU: nn.SiLU,
}
CLASSIFIER_FORMS: Forms = {BasicBlock: PublishedBasicBlock, Normalize: PublishedNormalize}


def published(model: nn.Module, forms: Forms) -> nn.Module:
    """A float32, contiguous copy in eval mode, whose modules compute as their published forms."""
    model = copy.deepcopy(model).float().to(memory_format=torch.contiguous_format).eval()
    for module in model.modules():
        module.__class__ = forms.get(type(module), type(module))
    return model
