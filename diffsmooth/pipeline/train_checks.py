"""What would end a training after its start is seen before it; and whose fault an exception is."""

import traceback
from pathlib import Path

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.plugins.environments import SLURMEnvironment
from lightning.pytorch.utilities.exceptions import MisconfigurationException

import diffsmooth
from diffsmooth.lit.data.module import ImageDataModule
from diffsmooth.lit.training.classifier import ClassifierTraining
from diffsmooth.lit.training.module import TrainingModule
from diffsmooth.pipeline.device import can_compile
from diffsmooth.stats.errors import UserError

PACKAGE = Path(diffsmooth.__file__).parent
REFUSING = (PACKAGE, Path(pl.__file__).parents[1], Path(torch.optim.__file__).parent)
KINDS = (ValueError, TypeError, OverflowError, RuntimeError, ImportError)


def check_images(data: ImageDataModule, model: TrainingModule) -> None:
    """Checks that a method goes with what is made of the images.

    Raises:
        UserError: images purified, or a classifier's images resized, for the other kind of network;
            random crops of random crops.
    """
    classifier = isinstance(model, ClassifierTraining)
    if data.purified is not None and not classifier:
        raise UserError("data.purified is for the training of classifiers")
    if data.reading.resize != "bilinear" and classifier:
        raise UserError(
            f"data.resize {data.reading.resize} is for the training of diffusion models: what a "
            "classifier is shown is resized bilinearly"
        )
    if data.random_resized_crop and classifier and model.hparams.crop_padding:
        raise UserError(
            "data.random_resized_crop crops the images already: give "
            f"--model.init_args.crop_padding 0, got {model.hparams.crop_padding}"
        )


def check_numbers(trainer: pl.Trainer) -> None:
    """Raises UserError for numbers that Lightning takes and then divides by, or worse.

    (A negative gradient_clip_val turns the gradients round.)
    """
    least = {
        "accumulate_grad_batches": 1,
        "check_val_every_n_epoch": 1,
        "gradient_clip_val": 0,
        "num_sanity_val_steps": -1,
    }
    for name, bound in least.items():
        value = getattr(trainer, name)
        if value is not None and not value >= bound:
            raise UserError(f"--trainer.{name} must be at least {bound}, got {value}")
    if trainer.limit_train_batches == 0:
        raise UserError("--trainer.limit_train_batches 0 trains nothing: must be above 0")
    interval = getattr(trainer, "val_check_interval", None)  # of times, it has none
    if isinstance(interval, int | float) and not interval > 0:
        raise UserError(f"--trainer.val_check_interval must be above 0, got {interval}")


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
            f"--trainer.gradient_clip_val {trainer.gradient_clip_val:g} is not for a fused "
            f"{type(optimizer).__name__} under --trainer.precision {trainer.precision}: leave "
            "fused: true out of the optimizer's init_args"
        )


def check_compile(trainer: pl.Trainer, model: TrainingModule) -> None:
    """Raises UserError if the network is to be compiled, and cannot be here."""
    reason = can_compile(trainer.strategy.root_device) if model.compiled else ""
    if reason:
        raise UserError(f"--model.init_args.compile: not possible here: {reason}")


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


def check_anew(trainer: pl.Trainer, begun_from: str | None = None) -> None:
    """Checks that a training replaces no checkpoint of an earlier one but its own.

    Args:
        begun_from: the checkpoint that it goes on from: those beside it are its own.

    Raises:
        UserError: it would.
    """
    # A requeued job of SLURM's goes on from Lightning's own file, and a trial run writes nothing.
    requeued = SLURMEnvironment.detect() and trainer._checkpoint_connector._hpc_resume_path
    if requeued or trainer.fast_dev_run:  # type: ignore[attr-defined]
        return
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, ModelCheckpoint) and not callback._enable_version_counter:
            for path in sorted(callback._find_last_checkpoints(trainer)):
                if begun_from and Path(path).resolve().parent == Path(begun_from).resolve().parent:
                    continue
                raise UserError(
                    f"{path} is of an earlier training, and would be overwritten: --ckpt_path last "
                    "goes on from it, another --name leaves it"
                )


def refusal(error: BaseException) -> str:
    """What was said against an option's value, by our constructors or Lightning; "" for a bug.

    Lightning and torch's optimisers refuse values by the same types that bugs have. But a refusal
    is a `raise` statement of theirs; what a bug trips over lies deeper, or is no such statement.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, UserError | MisconfigurationException) or _is_refusal(cause):
            return str(cause)
        cause = cause.__cause__
    return ""


def _is_refusal(error: BaseException) -> bool:
    if not isinstance(error, KINDS) or error.__traceback__ is None:
        return False
    last = traceback.extract_tb(error.__traceback__)[-1]
    is_theirs = any(Path(last.filename).is_relative_to(folder) for folder in REFUSING)
    return is_theirs and (last.line or "").startswith("raise ")
