"""The noise-prediction U-Net of OpenAI's diffusion models, both families.

"improved" (Nichol & Dhariwal 2021) resamples by convolutions; "guided" (Dhariwal & Nichol 2021)
resamples inside residual blocks. Attribute names give the published checkpoints' state-dict keys.
Each module computes by being called: a hook on it fires, and what takes its place is used.
"""

import math
from collections import OrderedDict
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffsmooth.models.diffusion.presets import GROUPS, UNetConfig


class UNet(nn.Module):
    """Predicts the noise in a noisy image.

    Raises:
        ValueError: see `UNetConfig.check`.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        config.check()
        self.config = config
        width = config.model_channels
        embed = 4 * width
        self.time_embed = nn.Sequential(nn.Linear(width, embed), nn.SiLU(), nn.Linear(embed, embed))

        def res_block(into: int, out: int, resample: str = "") -> ResBlock:
            return ResBlock(into, out, embed, config.dropout, resample)

        def attention(channels: int) -> AttentionBlock:
            by_width = config.head_channels
            return AttentionBlock(channels, channels // by_width if by_width else config.num_heads)

        def block(level: int, into: int) -> list[nn.Module]:
            """A residual block, and attention where the level has some."""
            layers: list[nn.Module] = [res_block(into, config.widths[level])]
            return [*layers, attention(config.widths[level])] if config.attends(level) else layers

        self.input_blocks = nn.ModuleList([BlockSequence(_conv3(config.in_channels, width))])
        skips = [width]
        for level, out in enumerate(config.widths):
            for _ in range(config.num_res_blocks):
                self.input_blocks.append(BlockSequence(*block(level, skips[-1])))
                skips.append(out)
            if level < len(config.widths) - 1:
                shrinking = (
                    res_block(out, out, "down")
                    if config.resblock_updown
                    else nn.Sequential(OrderedDict(op=nn.Conv2d(out, out, 3, stride=2, padding=1)))
                )
                self.input_blocks.append(BlockSequence(shrinking))
                skips.append(out)

        channels = skips[-1]
        self.middle_block = BlockSequence(
            res_block(channels, channels), attention(channels), res_block(channels, channels)
        )

        self.output_blocks = nn.ModuleList()
        for level, out in reversed(list(enumerate(config.widths))):
            for i in range(config.num_res_blocks + 1):
                layers = block(level, channels + skips.pop())
                channels = out
                if level > 0 and i == config.num_res_blocks:
                    layers.append(
                        res_block(out, out, "up")
                        if config.resblock_updown
                        else nn.Sequential(OrderedDict(up=_resampling("up"), conv=_conv3(out, out)))
                    )
                self.output_blocks.append(BlockSequence(*layers))

        self.out = nn.Sequential(
            FilmNorm(GROUPS, channels), SiLU(), _zeroed(_conv3(channels, config.out_channels))
        )
        self.to(memory_format=torch.channels_last)

    def embed_time(self, times: Tensor) -> Tensor:
        """Embedding (B, 4 * model_channels) of network times (B,), each in [0, 1000).

        It begins with sinusoids, cosines first. Source: Ho et al. 2020.
        """
        half = self.config.model_channels // 2
        steps = torch.arange(half, dtype=torch.float32, device=times.device)
        angles = times[:, None].float() * torch.exp(-math.log(10_000.0) / half * steps)
        embedding = torch.cat([angles.cos(), angles.sin()], dim=1)
        return self.time_embed(embedding.to(next(self.time_embed.parameters()).dtype))

    def conditions(self, times: Tensor) -> list[Tensor]:
        """What each residual block is told of the times (B,): (B, 2 * channels), in their order."""
        embedding = self.embed_time(times)
        blocks = (block for block in self.modules() if isinstance(block, ResBlock))
        return [block.emb_layers(embedding) for block in blocks]

    def forward(
        self, x: Tensor, times: Tensor, conditions: Sequence[Tensor] | None = None
    ) -> Tensor:
        """Epsilon, and the variance's interpolation weights where learned.

        Args:
            x: (B, in_channels, H, W), noisy images sqrt(abar) * image + sqrt(1 - abar) * eps with
                the image in [-1, 1]. H and W are multiples of 2 ** (levels - 1).
            times: (B,) or (1,), `DiffusionSchedule.network_time` of the timesteps.
            conditions: those of the times, where they have been computed before.

        Returns:
            (B, out_channels, H, W).
        """
        told = iter(self.conditions(times) if conditions is None else conditions)
        h = x.contiguous(memory_format=torch.channels_last)
        skips = []
        for block in self.input_blocks:
            h = block(h, told)
            skips.append(h)
        h = self.middle_block(h, told)
        for block in self.output_blocks:
            h = block(torch.cat([h, skips.pop()], dim=1), told)
        return self.out(h)


class ResBlock(nn.Module):
    """Two convolutions with a FiLM-conditioned second normalisation, and a residual connection.

    Source: scale-shift norm, norm(h) * (1 + scale) + shift: Nichol & Dhariwal 2021, appendix A.
    """

    def __init__(self, into: int, out: int, embed: int, dropout: float, resample: str = "") -> None:
        super().__init__()
        self.resample = _resampling(resample)
        silu = nn.Sequential(SiLU(), _resampling(resample)) if resample else SiLU()
        self.in_layers = nn.Sequential(FilmNorm(GROUPS, into), silu, _conv3(into, out))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embed, 2 * out))
        self.out_layers = Conditioned(
            FilmNorm(GROUPS, out), SiLU(), nn.Dropout(dropout), _zeroed(_conv3(out, out))
        )
        self.skip_connection = nn.Identity() if into == out else nn.Conv2d(into, out, 1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x (B, into, H, W), told of the times by `condition` (B or 1, 2 * out)."""
        h = self.out_layers(self.in_layers(x), condition)
        return self.skip_connection(self.resample(x)) + h


class FilmNorm(nn.GroupNorm):
    """A group norm whose affine map may be conditioned: norm(x) * (1 + scale) + shift."""

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """x (B, C, H, W) to the same shape; of the condition (B or 1, 2 C), scales come first."""
        weight: Tensor = self.weight
        bias: Tensor = self.bias
        if condition is not None and len(condition) == 1:  # the same for all rows: folded in
            scale, shift = condition[0].chunk(2)
            weight, bias, condition = weight + weight * scale, bias + bias * scale + shift, None
        if x.device.type == "cpu" and not torch.compiler.is_compiling() and _wants_contiguous(x):
            x = x.contiguous()
        h = F.group_norm(x, self.num_groups, weight, bias, self.eps)
        if condition is None:
            return h
        scale, shift = condition[:, :, None, None].chunk(2, dim=1)
        return torch.addcmul(shift, h, 1 + scale)


class SiLU(nn.SiLU):
    """In place, where no gradient is wanted."""

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(x, inplace=not torch.is_grad_enabled())


class Conditioned(nn.Sequential):
    """A sequence that hands the condition to its norms."""

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:  # type: ignore[override]
        for layer in self:
            x = layer(x, condition) if isinstance(layer, FilmNorm) else layer(x)
        return x


class BlockSequence(nn.Sequential):
    """A sequence that hands each residual block its condition, the next of them."""

    def forward(self, x: Tensor, told: Iterator[Tensor]) -> Tensor:  # type: ignore[override]
        for block in self:
            x = block(x, next(told)) if isinstance(block, ResBlock) else block(x)
        return x


class AttentionBlock(nn.Module):
    """Self-attention over the pixels. The channels of `qkv` are laid out heads first."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = FilmNorm(GROUPS, channels)
        self.qkv = Pointwise(channels, 3 * channels, 1)
        self.proj_out = _zeroed(Pointwise(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, H, W) to the same shape."""
        b, c, height, width = x.shape
        # Pixels before channels: in channels-last memory these are views, without a copy.
        tokens = self.norm(x).permute(0, 2, 3, 1).reshape(b, -1, c)
        qkv = self.qkv(tokens).view(b, -1, self.heads, 3 * c // self.heads)
        # Each (B, heads, pixels, channels of a head); the fused kernels take them strided.
        q, k, v = qkv.transpose(1, 2).chunk(3, dim=-1)
        h = _attend(q, k, v).transpose(1, 2).reshape(b, -1, c)
        return x + self.proj_out(h).view(b, height, width, c).permute(0, 3, 1, 2)


class Pointwise(nn.Conv1d):
    """A linear layer on (B, pixels, C), with the weights of the published 1 x 1 convolution."""

    def forward(self, tokens: Tensor) -> Tensor:
        return F.linear(tokens, self.weight.squeeze(2), self.bias)


def _wants_contiguous(x: Tensor) -> bool:
    """Whether torch's CPU kernel for channels-last memory is not the one for x (B, C, H, W)."""
    b, c, height, width = x.shape
    if height * width < 1024:
        # One number at a time where a group is narrower than a vector: up to 20 times slower.
        return c < 16 * GROUPS
    # Its threads share the pixels of all rows: one that two threads share is summed in two parts,
    # so that its low bits would depend on its place in the batch.
    return b % torch.get_num_threads() != 0


def _attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention of queries to keys and values, each (B, heads, pixels, channels of a head)."""
    if q.device.type != "cpu" or q.shape[2] > 256:
        return F.scaled_dot_product_attention(q, k, v)
    # For few pixels two products beat the CPU's fused kernel.
    scores = torch.matmul(q * q.shape[3] ** -0.5, k.transpose(2, 3))
    return torch.matmul(scores.softmax(dim=-1, dtype=q.dtype), v)


def _resampling(direction: str) -> nn.Module:
    """Doubles ("up", nearest neighbours) or halves ("down", means) the sides; "" does neither."""
    kinds = {"": nn.Identity(), "down": nn.AvgPool2d(2), "up": nn.Upsample(scale_factor=2.0)}
    return kinds[direction]


def _conv3(into: int, out: int) -> nn.Conv2d:
    return nn.Conv2d(into, out, 3, padding=1)


def _zeroed(layer: nn.Conv1d | nn.Conv2d) -> nn.Module:
    # A block that starts as the identity trains better (Ho et al. 2020).
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
