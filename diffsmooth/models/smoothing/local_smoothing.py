"""Local smoothing: a base classifier's mean confidence over m fixed noisy copies."""

import copy
import math
import operator
from collections.abc import Mapping
from itertools import chain

import torch
from torch import Tensor, nn

from diffsmooth.shown_text import quoted
from diffsmooth.stats.bounds import count_of, number_of
from diffsmooth.stats.errors import UserError

# Packages whose networks take images in either memory layout; not torch.jit, which holds others'.
KNOWN = ("torch.nn.", "torchvision.", "timm.", "transformers.", "diffsmooth.")
ALIKE = 1e-2  # of the largest logit: what another layout's kernels may round, in bf16 too


class NetworkError(UserError):
    """The networks' output cannot be votes."""


class LocalSmoothing(nn.Module):
    """Mean softmax of a classifier over m copies of the image, each plus its own fixed noise.

    The noise is drawn once, so that this is one deterministic function of the image: a fresh draw
    shared by a batch would make votes dependent, and certificates void.

    Args:
        classifier: images (B, C, H, W) in [0, 1] plus noise, to logits (B, K).
        m: number of copies, at least 1.
        sigma_local: standard deviation of their noise, >= 0, in [0, 1] pixel units.
        image_shape: (C, H, W).
        seed: the noise's, which torch.randn draws on the CPU, as in the published code.
        noise: standard normal (m, C, H, W) to use instead.

    Raises:
        ValueError: an argument out of range, or noise of another shape.

    Source: DiffSmooth (Zhang et al. 2023), section 4.2.
    """

    noise: Tensor

    def __init__(
        self,
        classifier: nn.Module,
        m: int = 5,
        sigma_local: float = 0.25,
        image_shape: tuple[int, int, int] = (3, 32, 32),
        seed: int = 42,
        noise: Tensor | None = None,
    ) -> None:
        super().__init__()
        m = count_of("m", m)
        sigma_local = number_of("sigma_local", sigma_local)
        if not 0 <= sigma_local < math.inf:
            raise ValueError(f"sigma_local must be >= 0 and finite, got {sigma_local}")
        shape = (m, *_checked(image_shape))
        if noise is None:
            noise = draw_local_noise(m, shape[1:], seed)
        if tuple(noise.shape) != shape:
            raise ValueError(f"noise must be {shape}, got {tuple(noise.shape)}")
        self.layout = torch.contiguous_format
        self.classifier = classifier
        self.m = m
        self.sigma_local = sigma_local
        self.image_shape = shape[1:]
        self.register_buffer("noise", noise.float(), persistent=False)

    def choose_layout(self) -> None:
        """Puts a classifier in eval mode, and what it sees, channels last where it takes that.

        That is twice as fast in bf16. But threads of the CPU's channels-last group norm share the
        pixels of all rows, so that a row's low bits would depend on its place (see `unet.py`). And
        a stranger's network may view its input as it lies in memory: then it is shown one image.
        """
        modules = [*self.classifier.modules()]
        has_group_norm = any(isinstance(module, nn.GroupNorm) for module in modules)
        is_known = all(type(module).__module__.startswith(KNOWN) for module in modules)
        if not has_group_norm and (is_known or self._is_same(torch.channels_last)):
            self.layout = torch.channels_last
        for tensor in chain(self.classifier.parameters(), self.classifier.buffers()):
            if tensor.dim() == 4:
                tensor.data = tensor.data.contiguous(memory_format=self.layout)

    @torch.no_grad()
    def _is_same(self, layout: torch.memory_format) -> bool:
        """Whether the classifier gives the same of an image in another memory layout."""
        there = next(self.classifier.parameters(), self.noise)
        # Two rows: of one, the layouts of a single channel are alike.
        image = self.noise[:1].repeat(2, 1, 1, 1).to(there.device)
        try:
            asked = copy.deepcopy(self.classifier)  # it may keep what it computes
            with torch.random.fork_rng(devices=[]):
                usual, other = (asked(image.contiguous(memory_format=one)) for one in
                                (torch.contiguous_format, layout))  # fmt: skip
            finite = usual.isfinite()
            near = ALIKE * float(usual[finite].abs().max())
            return torch.equal(finite, other.isfinite()) and torch.allclose(
                usual[finite], other[finite], rtol=0.0, atol=near
            )
        except Exception:  # whoever cannot run at all is told so by the checks of f
            return False

    def forward(self, images: Tensor) -> Tensor:
        """Mean softmax (B, K), float32, of images (B, C, H, W) in [0, 1]."""
        return self.softmax(images).mean(dim=1)

    def softmax(self, images: Tensor) -> Tensor:
        """Softmax (B, m, K), float32, of each local copy of images (B, C, H, W) in [0, 1].

        NaN throughout a copy whose logits are no answer: with a NaN, a +infinity, or nothing but
        -infinity, which alone is a class that is masked.

        Raises:
            NetworkError: the classifier's output is not (B m, K).
        """
        logits = self.logits(images).float()
        is_answer = logits.amax(dim=-1, keepdim=True).isfinite()
        return torch.where(is_answer, logits.softmax(dim=-1), torch.nan)

    def logits(self, images: Tensor) -> Tensor:
        """The classifier's output (B, m, K) for each local copy of images (B, C, H, W).

        Raises:
            NetworkError: it is not (B m, K), or is complex.
        """
        copies = images[:, None] + self.sigma_local * self.noise  # (B, m, C, H, W)
        logits = self.classifier(copies.flatten(0, 1).contiguous(memory_format=self.layout))
        rows = len(images) * self.m
        if not isinstance(logits, Tensor) or logits.shape[:-1] != (rows,):
            what = tuple(logits.shape) if isinstance(logits, Tensor) else _described(logits)
            raise NetworkError(
                f"the classifier's output must be logits ({rows}, classes), it is {what}"
            )
        if logits.is_complex():
            raise NetworkError("the classifier's output is complex: complex numbers have no order")
        return logits.unflatten(0, (-1, self.m))


def _checked(image_shape: object) -> tuple[int, int, int]:
    """(C, H, W), whatever sequence it came as."""
    try:
        channels, height, width = (operator.index(n) for n in image_shape)  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        channels = height = width = 0
    if min(channels, height, width) < 1:
        raise ValueError(
            f"image_shape must be (channels, height, width), each at least 1, got {image_shape!r}"
        )
    return channels, height, width


def _described(output: object) -> str:
    """What a network gives instead of logits, and what its user can do about it."""
    kind, such = type(output).__name__, ""
    if isinstance(output, Mapping) and output:
        tensors = (key for key, value in output.items() if isinstance(value, Tensor))
        first = next(tensors, next(iter(output)))
        kind, such = f"{kind} of {quoted([*output])}", f", such as output[{quoted(first)}]"
    elif isinstance(output, tuple | list):
        kind, such = f"{kind} of {len(output)}", ", such as output[0]"
    return f"{kind}: wrap it in a module whose forward returns the logits alone{such}"


def draw_local_noise(m: int, image_shape: tuple[int, int, int], seed: int) -> Tensor:
    """The fixed noise of m copies: standard normal (m, C, H, W), float32, drawn on the CPU.

    Raises:
        ValueError: a seed that torch has no place for.
    """
    try:
        generator = torch.Generator("cpu").manual_seed(operator.index(seed))
    except (TypeError, RuntimeError) as error:
        raise ValueError(f"the seed of local noise must be an integer, got {seed!r}") from error
    # Whatever the process's default type and device are.
    shape = (m, *image_shape)
    return torch.randn(shape, generator=generator, dtype=torch.float32, device="cpu")
