"""Learning-rate schedules, in epochs, applied at every step."""

import math
from dataclasses import dataclass
from typing import Literal

import lightning.pytorch as pl
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from diffsmooth.stats.errors import UserError


@dataclass(frozen=True)
class LearningRate:
    """How the optimiser's learning rate changes over training.

    Attributes:
        schedule: "constant"; "step": times `gamma` every `step_epochs` epochs; "milestones": times
            `gamma` from each of those epochs on; or "cosine": from the start value to 0 at the end
            (Loshchilov & Hutter 2017).
        step_epochs: how long a rate of "step" lasts, > 0: torch's StepLR, stepped before an epoch.
        milestones: the epochs of "milestones", counted from 0, rising. A StepLR that a published
            loop steps after its epochs, by their numbers, falls one epoch later: 51, 101 for a
            step of 50 (see configs/published.py).
        gamma: the factor of "step" and "milestones", in (0, 1].
        warmup_epochs: epochs of linear increase from 0 at the beginning, >= 0.

    Raises:
        ValueError: out of range.
    """

    schedule: Literal["constant", "step", "milestones", "cosine"] = "step"
    step_epochs: int = 30
    milestones: tuple[int, ...] = ()
    gamma: float = 0.1
    warmup_epochs: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "milestones", tuple(self.milestones))  # of lists, in Python
        if self.step_epochs < 1:
            raise ValueError(f"step_epochs must be at least 1, got {self.step_epochs}")
        if (self.schedule == "milestones") != bool(self.milestones):
            raise ValueError("milestones go with the schedule of that name, and it needs some")
        if (
            list(self.milestones) != sorted(set(self.milestones))
            or min(self.milestones, default=1) < 1
        ):
            raise ValueError(f"milestones must rise from 1 on, got {list(self.milestones)}")
        if not 0 < self.gamma <= 1:
            raise ValueError(f"gamma must be in (0, 1], got {self.gamma}")
        if not self.warmup_epochs >= 0:
            raise ValueError(f"warmup_epochs must be >= 0, got {self.warmup_epochs}")

    def factor(self, step: int, total_steps: float, steps_per_epoch: float) -> float:
        """What the start value is multiplied by at optimiser step `step`."""
        epoch = step / steps_per_epoch
        if epoch < self.warmup_epochs:
            return (step + 1) / (self.warmup_epochs * steps_per_epoch + 1)
        if self.schedule == "cosine":
            return (1 + math.cos(math.pi * min(step / total_steps, 1.0))) / 2
        if self.schedule == "step":
            return self.gamma ** int(epoch / self.step_epochs)
        if self.schedule == "milestones":
            return self.gamma ** sum(epoch >= milestone for milestone in self.milestones)
        return 1.0

    def scheduler(self, trainer: pl.Trainer, optimizer: Optimizer) -> LambdaLR:
        """The scheduler of a trainer's run, to be stepped after each optimiser step.

        Raises:
            UserError: a cosine in a run without an end.
        """
        total = trainer.estimated_stepping_batches  # infinite without max_epochs and max_steps
        if math.isinf(total) and self.schedule == "cosine":
            raise UserError("the cosine schedule needs max_epochs or max_steps: to know its end")
        trainer.fit_loop.setup_data()  # that has looked at no loader where max_epochs is -1
        batches = trainer.num_training_batches
        if math.isinf(batches):
            by_epochs = self.schedule in ("step", "milestones") or self.warmup_epochs
            if by_epochs or (self.schedule == "cosine" and trainer.max_steps < 0):
                raise UserError(
                    f"learning rate {self.schedule!r}: the loader does not tell how many batches "
                    "an epoch has: take constant or, with max_steps, cosine, without a warm-up"
                )
            return LambdaLR(optimizer, lambda step: self.factor(step, total, math.inf))
        # The last batch of an epoch makes a step, too, however many were accumulated.
        steps = math.ceil(batches / trainer.accumulate_grad_batches)

        def done(step: int) -> int:
            # By the epoch, which a training that goes on keeps; its steps it may have taken with
            # another batch size or on another number of devices.
            if total == trainer.max_steps and self.schedule == "cosine":
                return step  # its end is a number of steps
            batches = trainer.fit_loop.epoch_loop.batch_progress.current.ready
            steps_now = math.ceil(batches / trainer.accumulate_grad_batches)
            return trainer.current_epoch * steps + steps_now

        return LambdaLR(optimizer, lambda step: self.factor(done(step), total, steps))
