"""What would end a training after its start is seen before it."""

import lightning.pytorch as pl
from lightning.pytorch.plugins import MixedPrecision

from diffsmooth.lit.training.module import TrainingModule
from diffsmooth.stats.errors import UserError


def check_optimizer(trainer: pl.Trainer, model: TrainingModule) -> None:
    """Makes the optimiser, for what its options say.

    Raises:
        UserError: options out of range; a fused one whose gradients are to be clipped.
    """
    optimizer = model.new_optimizer()
    mixed = isinstance(trainer.precision_plugin, MixedPrecision)
    # As Lightning asks, at the first step.
    fused = getattr(optimizer, "_step_supports_amp_scaling", False)
    if mixed and fused and trainer.gradient_clip_val:
        raise UserError(
            f"--trainer.gradient_clip_val {trainer.gradient_clip_val} is not for a fused "
            f"{type(optimizer).__name__} under --trainer.precision {trainer.precision}: leave "
            "fused: true out of the optimizer's init_args"
        )


def check_monitors(trainer: pl.Trainer, model: TrainingModule) -> None:
    """Checks that what callbacks watch will be measured.

    Raises:
        UserError: a callback of Lightning's monitors what nobody logs.
    """
    names = [f"val/{name}" for name in model.measured]
    callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    known = ("lightning.", "diffsmooth.")
    others = any(not type(callback).__module__.startswith(known) for callback in callbacks)
    for callback in callbacks:
        monitor = getattr(callback, "monitor", None)
        if not isinstance(monitor, str) or monitor in names or others:
            continue
        if not monitor.startswith(("train/", "lr-")):  # Lightning sees those after an epoch
            raise UserError(
                f"{type(callback).__name__}'s monitor {monitor!r} is nothing that is measured: "
                f"known are {', '.join(names)}"
            )
