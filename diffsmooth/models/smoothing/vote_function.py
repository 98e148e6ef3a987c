"""What votes: one code path for Cohen, diffusion denoised smoothing and DiffSmooth."""

import math
from collections.abc import Callable, Sequence
from copy import deepcopy
from itertools import chain
from typing import Protocol, Self, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from diffsmooth.models.smoothing.local_smoothing import LocalSmoothing, NetworkError
from diffsmooth.models.smoothing.memory import in_short, is_out_of_memory, memory_for
from diffsmooth.models.smoothing.precision import autocast
from diffsmooth.models.smoothing.purifiers import Purifier
from diffsmooth.stats.bounds import count_of, number_of
from diffsmooth.stats.errors import UserError
from diffsmooth.stats.printed import counted

FLOAT32 = np.finfo(np.float32)
M = TypeVar("M", bound=nn.Module)

DrawsOfRun = Callable[[int], Tensor | None]
"""From the number of a reverse run to its draws (draws, B, C, H, W), or None; in any order."""


class Voter(Protocol):
    """What the engine drives: f alone, or several that share the work of one."""

    @property
    def f(self) -> "VoteFunction":
        """The one whose networks run, in its batches; it is checked to be one fixed function."""

    @property
    def settings(self) -> Sequence[object]:
        """What tells several apart, in words; empty for f alone."""

    def answer(self, noisy: Tensor, draws_of: DrawsOfRun) -> Tensor:
        """As `VoteFunction.answer`: (B,) of f alone, (S, B) of several."""


class VoteFunction(nn.Module):
    """f: noisy images to classes, one vote each. As a module, to mean softmax.

    It purifies the noisy image, averages the classifier's confidence over the local copies, and
    takes the argmax: one noisy image is one vote, whatever m is. With `IdentityPurifier`, m = 1
    and sigma_local = 0, f is the classifier alone (Cohen et al. 2019).

    It is in eval mode, whatever becomes of the modules that hold it. The engine's `Voter`, alone.

    Args:
        purifier: see `purifiers.py`.
        local_smoothing: holds the classifier.
        sigma: noise level, in [0, 1] pixel units; the radius is in the same units.
        num_classes: at least 2.
        batch: votes a forward pass. Every pass has this one shape (the last is padded), since
            kernels round differently at other shapes, and f must be one fixed function.
        precision: "float32", or "bf16" to autocast the layers; "tf32" is float32 here, see
            `fix_numerics`.
        copy: whether the networks are copied, so that their owner's stay as they are. Otherwise
            they are put into eval mode and another memory format.

    Raises:
        ValueError: sigma that is not > 0 and finite in float32, or is beyond the purifier's
            schedule; num_classes < 2; batch < 1; unknown precision.
    """

    settings: Sequence[object] = ()

    def __init__(
        self,
        purifier: Purifier,
        local_smoothing: LocalSmoothing,
        sigma: float,
        num_classes: int,
        batch: int = 50,
        precision: str = "float32",
        copy: bool = True,
    ) -> None:
        super().__init__()
        sigma = number_of("sigma", sigma)
        smallest, largest = (float(limit) for limit in (FLOAT32.tiny, FLOAT32.max))
        if not smallest <= sigma <= largest:
            raise ValueError(f"sigma must be > 0 and finite in float32, got {sigma}")
        num_classes, batch = count_of("num_classes", num_classes), count_of("batch", batch)
        if num_classes < 2:
            raise ValueError(f"num_classes must be at least 2, got {num_classes}")
        autocast(precision, "cpu")  # knows the words
        level = self._noise_level = float(purifier.noise_level(float(sigma)))
        if not sigma <= level < math.inf:  # less noise than the radius is computed with overstates
            raise ValueError(
                f"the purifier's noise level must be at least sigma {sigma}, is {level}"
            )
        self.purifier = copied(purifier) if copy else purifier
        self.local_smoothing = copied(local_smoothing) if copy else local_smoothing
        self.image_shape = local_smoothing.image_shape
        self._sigma = float(sigma)
        self.num_classes = num_classes
        self.batch = batch
        self.precision = precision
        self.eval()
        self.local_smoothing.choose_layout()

    @property
    def sigma(self) -> float:
        """Of the noise, in [0, 1] pixel units. Another one is another f, with noise of its own."""
        return self._sigma

    @property
    def noise_level(self) -> float:
        """The standard deviation that is drawn, at least sigma: see `Denoiser.noise_level`."""
        return self._noise_level

    def train(self, mode: bool = True) -> Self:
        """Stays in eval mode: f is one fixed function of its input."""
        return super().train(False)

    @property
    def device(self) -> torch.device:
        return self.local_smoothing.noise.device

    @property
    def networks(self) -> dict[str, nn.Module]:
        """By what errors call them."""
        return {"the purifier": self.purifier, "the classifier": self.local_smoothing.classifier}

    @property
    def f(self) -> Self:
        return self

    @property
    def reverse_runs(self) -> int:
        """Reverse runs a vote, whose answer is that of most of them."""
        return self.purifier.reverse_runs

    def forward(self, noisy: Tensor, draws: Tensor | None = None) -> Tensor:
        """Mean softmax (B, K) of noisy images (B, C, H, W); differentiable, and draws nothing.

        Args:
            noisy: image in [0, 1] + noise level * normal.
            draws: what a random purifier needs for one reverse run, see `Purifier.forward`.
        """
        with self.autocast():
            return self.local_smoothing(self.purifier(noisy, self.sigma, draws))

    def purify(self, noisy: Tensor, draws: Tensor | None = None) -> Tensor:
        """The purifier's images (B, C, H, W), float32, of noisy ones."""
        with self.autocast():
            return self.purifier(noisy, self.sigma, draws)

    def autocast(self) -> torch.autocast:
        """The context in which its networks run."""
        return autocast(self.precision, self.device.type)

    def answer(self, noisy: Tensor, draws_of: DrawsOfRun) -> Tensor:
        """f: the class (B,) of each noisy image, int64; K where an output is not finite.

        Not a number has an argmax, too: all votes for class 0, and the largest radius.

        Args:
            noisy: (B, C, H, W).
            draws_of: gives a reverse run's draws (draws, B, C, H, W), None where none are needed.

        Raises:
            NetworkError: outputs for another number of classes.
            OutOfMemory: the batch does not fit.
        """
        return self.vote(lambda reverse_run: self(noisy, draws_of(reverse_run)))

    def vote(self, confidence_of: Callable[[int], Tensor]) -> Tensor:
        """The answers (..., B) to what each reverse run makes of a batch; errors as of `answer`.

        Args:
            confidence_of: from the number of a reverse run to its mean softmax (..., B, K).
        """
        answers = []
        with memory_for(self.batch):
            for reverse_run in range(self.reverse_runs):
                confidence = confidence_of(reverse_run)
                self.check_classes(confidence)
                finite = confidence.isfinite().all(dim=-1)
                answers.append(torch.where(finite, confidence.argmax(dim=-1), self.num_classes))
            return answers[0] if len(answers) == 1 else self._of_most(torch.stack(answers, dim=-1))

    def check_classes(self, confidence: Tensor) -> None:
        """Raises NetworkError unless (..., K) are for as many classes as it answers with."""
        classes = confidence.shape[-1]
        if classes != self.num_classes:
            raise NetworkError(
                f"the classifier has {counted(classes, 'class')}, not {self.num_classes}: labels "
                "count from 0; class_names of an .npz file names classes that no image has, and "
                "num_classes of a SmoothedClassifier says how many there are"
            )

    def _of_most(self, answers: Tensor) -> Tensor:
        """The answer (...) of most reverse runs (..., reverse runs); K where one of them has none.

        Of classes that equally many gave it is the one that came first. So the numbers of the
        classes do not matter, and two reverse runs count like the first alone: the lowest class
        would win all disagreements, and be right or wrong by its number.

        Source: DensePure (Xiao et al. 2023), the published code: `max(runs, key=runs.count)` in
        core.py and results/merge_results.py of Jayfeather1024/DensePure.
        """
        agreeing = (answers[..., :, None] == answers[..., None, :]).sum(dim=-1)
        first = agreeing.argmax(dim=-1, keepdim=True)  # of equals torch gives the first
        no_answer = (answers == self.num_classes).any(dim=-1)
        return torch.where(no_answer, self.num_classes, answers.gather(-1, first).squeeze(-1))


def copied(module: M) -> M:
    """A deep copy of networks.

    Raises:
        UserError: one cannot be copied, or has tensors that cannot vote.
    """
    for name, part in module.named_modules():
        layer = f"a network's layer {name or type(part).__name__}"
        for tensor in chain(part.parameters(recurse=False), part.buffers(recurse=False)):
            if is_lazy(tensor):
                raise UserError(f"{layer} is lazy and has no weights yet: call the network first")
            if tensor.layout != torch.strided:
                raise UserError(f"{layer} holds a sparse tensor: make it dense, by .to_dense()")
    try:
        return deepcopy(module)
    except Exception as error:  # of whatever it holds
        if is_out_of_memory(error):
            raise
        raise UserError(
            f"a network cannot be copied: {in_short(error)} (instead of spectral_norm and "
            "weight_norm take those of torch.nn.utils.parametrizations)"
        ) from error
