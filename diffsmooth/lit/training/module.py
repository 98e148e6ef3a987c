"""What all training modules share: optimiser, random streams, divergence, checkpoints' words."""

import dataclasses
import inspect
import math
from abc import ABC, abstractmethod
from types import NoneType
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torch.nn import Parameter
from torch.nn.utils import get_total_norm

from diffsmooth.lit.data.images import Batch
from diffsmooth.lit.data.module import ImageDataModule
from diffsmooth.lit.training.checkpoint_files import write_whole_checkpoints
from diffsmooth.lit.training.learning_rate import LearningRate
from diffsmooth.lit.training.mean_over_images import MeanOverImages
from diffsmooth.lit.training.randomness import DROPOUT, step_generator, step_seed
from diffsmooth.models.checkpoints.image_cards import Told
from diffsmooth.models.checkpoints.training_images import IMAGES_KEY, TrainingImages
from diffsmooth.models.checkpoints.weights import METADATA_KEY, CheckpointMetadata
from diffsmooth.models.smoothing.noise import NoiseKey, NumpyNoise, Votes
from diffsmooth.stats.errors import UserError

METHOD_KEY = "diffsmooth_training"  # in a checkpoint: the class that trained it
SETTINGS_KEY = "diffsmooth_settings"  # and its options
# What trainings did before these were options; their checkpoints do not say it.
BEFORE: dict[str, dict[str, Any]] = {
    "ConsistencyTraining": {"epsilon": None},
    "MacerTraining": {"deferred_epochs": 0},
    "SmoothMixTraining": {"mix_step": 0},
}
HARDWARE = ("fused", "foreach", "capturable", "differentiable")  # how an optimiser computes


class TrainingDiverged(Exception):
    """The loss or the weights are no longer finite."""


class _SharedOptimizer:
    """Makes the optimiser; copies of a module share it.

    The averaging of weights copies the module, and what the command line makes of an optimiser's
    options holds on to the trainer and, with several devices, to locks that cannot be copied.
    """

    def __init__(self, make: OptimizerCallable) -> None:
        self.make = make

    def __deepcopy__(self, memo: Any) -> "_SharedOptimizer":
        return self


class TrainingModule(pl.LightningModule, ABC):
    """Base of the training modules.

    Args:
        optimizer: makes the optimiser from the parameters.
        learning_rate: the schedule of its learning rate.
        seed: of the training noise and the augmentation, and of the noise of validation and test.
        measures: names of what validation and test measure of each image.
    """

    # What the weights that the training began with, or goes on from, were trained on; None where
    # they are random. Subclasses set it.
    begun_with: Told | None = None

    def __init__(
        self,
        optimizer: OptimizerCallable,
        learning_rate: LearningRate,
        seed: int,
        measures: tuple[str, ...],
    ) -> None:
        super().__init__()
        if seed < 0:
            raise ValueError(f"seed must be >= 0, got {seed}")
        self._optimizer = _SharedOptimizer(optimizer)
        self._learning_rate = learning_rate
        self._seed = seed
        self._sum_of_losses: Tensor | float = 0.0
        self.measured = measures
        self._means = nn.ModuleList(MeanOverImages() for _ in measures)

    @property
    @abstractmethod
    def network(self) -> nn.Module:
        """The network that is trained; its state dict is what a checkpoint is for."""

    @abstractmethod
    def metadata(self) -> CheckpointMetadata:
        """What the checkpoint says of its network, so that certify.py need not ask."""

    def generator(self) -> torch.Generator:
        """The random stream of this training step on this rank."""
        step = self.trainer.fit_loop.total_batch_idx
        return step_generator(self.device, self._seed, self.global_rank, step)

    def noise_keys(self, batch: Batch, split: str) -> list[NoiseKey]:
        """Whose noise validation and test draw: an image's own, on any rank, in each epoch."""
        dataset, indices = self.metadata().dataset, batch.original_index.tolist()
        return [NoiseKey(self._seed, "evaluate", dataset, split, index) for index in indices]

    def draws(self, keys: list[NoiseKey], count: int, shape: torch.Size) -> Tensor:
        """Standard normal draws (B, count, C, H, W) of B images of shape (C, H, W)."""
        votes = [Votes(key, stage=0, first=0, count=count) for key in keys]
        noise = NumpyNoise().draw(votes, lane=0, rows=len(keys) * count, shape=tuple(shape))
        return noise.to(self.device).unflatten(0, (-1, count))

    def measure(self, split: str, batch: Batch, name: str, values: Tensor) -> None:
        """Logs the mean of values (B,) over all images, the same on any number of devices."""
        mean = self._means[self.measured.index(name)]
        assert isinstance(mean, MeanOverImages)
        mean.update(batch.original_index, values)
        self.log(f"{split}/{name}", mean, prog_bar=True)

    def trained_parameters(self) -> list[Parameter]:
        return [p for p in self.parameters() if p.requires_grad]

    def new_optimizer(self) -> torch.optim.Optimizer:
        """The optimiser.

        Raises:
            UserError: torch refuses its options.
        """
        try:
            return self._optimizer.make(self.trained_parameters())
        except (ValueError, TypeError, RuntimeError) as error:
            raise UserError(f"optimizer: {error}") from error

    def settings(self) -> dict[str, Any]:
        """The options that a resumed training must share, beside `metadata`, by their names.

        They are the arguments, of all classes of the method, that are kept under their names.
        """
        kinds = [kind for kind in type(self).__mro__ if issubclass(kind, TrainingModule)]
        names = {name for kind in kinds for name in inspect.signature(kind.__init__).parameters}
        own = {
            name: getattr(self, f"_{name}") for name in sorted(names) if hasattr(self, f"_{name}")
        }
        rate = dataclasses.asdict(self._learning_rate)
        optimizer = self.new_optimizer()
        said = {"class": type(optimizer).__name__, **optimizer.defaults}
        options = {
            **own,
            **{f"learning_rate.{name}": value for name, value in rate.items()},
            **{f"optimizer.{name}": said[name] for name in said if name not in HARDWARE},
        }
        plain = (bool, int, float, str, tuple, NoneType)
        return {name: value for name, value in options.items() if isinstance(value, plain)}

    def setup(self, stage: str) -> None:
        if stage == "fit":
            write_whole_checkpoints(self.trainer)

    def configure_optimizers(self) -> Any:
        optimizer = self.new_optimizer()
        total = self.trainer.estimated_stepping_batches  # infinite without max_epochs and max_steps
        if math.isinf(total) and self._learning_rate.schedule == "cosine":
            raise UserError("the cosine schedule needs max_epochs or max_steps: to know its end")
        # The last batch of an epoch makes a step, too, however many were accumulated.
        steps = math.ceil(self.trainer.num_training_batches / self.trainer.accumulate_grad_batches)

        def done(step: int) -> int:
            # By the epoch, which a training that goes on keeps; its steps it may have taken with
            # another batch size or on another number of devices.
            if total == self.trainer.max_steps and self._learning_rate.schedule == "cosine":
                return step  # its end is a number of steps
            batches = self.trainer.fit_loop.epoch_loop.batch_progress.current.ready
            steps_now = math.ceil(batches / self.trainer.accumulate_grad_batches)
            return self.trainer.current_epoch * steps + steps_now

        scheduler = self._learning_rate.scheduler(optimizer, total, steps, done)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def on_fit_start(self) -> None:
        self._sum_of_losses = 0.0

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        # Dropout draws from the global stream: let it, too, depend on the seed, rank and step.
        step = self.trainer.fit_loop.total_batch_idx
        torch.manual_seed(step_seed(self._seed, self.global_rank, step, DROPOUT))

    def on_before_backward(self, loss: Tensor) -> None:
        # Once not finite, the sum stays so: it need not be looked at, which waits for the device,
        # at every step.
        self._sum_of_losses = self._sum_of_losses + loss.detach()

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        every: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined]  # 0: never
        if every and (batch_idx + 1) % every == 0:
            self._check_finite()

    def on_validation_start(self) -> None:
        self._check_finite()

    def on_validation_epoch_start(self) -> None:
        # Each rank's batch norms have seen other images since the last forward pass of training.
        # Rank zero's statistics go into the checkpoint, so they are what is measured. Here, since
        # by now averaged weights are in place.
        if self.trainer.world_size > 1:
            for buffer in self.network.buffers():
                torch.distributed.broadcast(buffer, src=0)

    def on_train_epoch_end(self) -> None:
        self._check_finite()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._check_finite()
        checkpoint[METADATA_KEY] = self.metadata()._asdict()
        checkpoint[METHOD_KEY] = type(self).__name__
        checkpoint[SETTINGS_KEY] = self.settings()
        record = self.training_images()
        if record is not None:
            checkpoint[IMAGES_KEY] = record._asdict()

    def training_images(self) -> TrainingImages | None:
        """Which images train the network and choose its checkpoint; None with others' loaders."""
        data = getattr(self.trainer, "datamodule", None)
        record = data.training_images if isinstance(data, ImageDataModule) else None
        if record is None:
            return None
        callbacks: list[pl.Callback] = self.trainer.callbacks  # type: ignore[attr-defined]
        monitors = [str(getattr(callback, "monitor", None)) for callback in callbacks]
        watched = any(monitor.startswith("val") for monitor in monitors)
        by = ("validation" if record.validation else "test") if watched else "nothing"
        before = self.begun_with
        same = before is not None and record.same_images(before.record)
        pretrained = "" if before is None else "same" if same else "other"
        return record._replace(chosen_by=by, pretrained=pretrained)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Raises UserError if the checkpoint is of another training; before anything is loaded."""
        path = self.trainer.ckpt_path
        if METADATA_KEY not in checkpoint or METHOD_KEY not in checkpoint:
            raise UserError(f"{path}: holds weights only, training cannot resume from it")
        asked = {"method": type(self).__name__, **self.metadata()._asdict(), **self.settings()}
        stored = {
            "method": checkpoint[METHOD_KEY],
            **CheckpointMetadata(**checkpoint[METADATA_KEY])._asdict(),
            **checkpoint.get(SETTINGS_KEY, {}),  # of older versions, without: not compared
        }
        stored = BEFORE.get(checkpoint[METHOD_KEY], {}) | stored
        for name, value in asked.items():
            if stored.get(name, value) != value:
                raise UserError(
                    f"{path}: was trained with {name} {stored[name]!r}, not {value!r}; to go on, "
                    "leave the options as they were"
                )
        self._go_on_from(checkpoint)

    def _go_on_from(self, checkpoint: dict[str, Any]) -> None:
        """What trained the weights before they were saved stays so, whatever is said now."""
        record = None
        if IMAGES_KEY in checkpoint:
            record = TrainingImages.from_stored(checkpoint[IMAGES_KEY])
        if record is None:
            self.begun_with = Told(None, "the training was begun by an older version")
        elif record.pretrained == "other":
            self.begun_with = Told(record)
        elif not record.pretrained:
            self.begun_with = None

    def _check_finite(self) -> None:
        """Raises TrainingDiverged, on all ranks, if the loss or a weight of one is not finite."""
        weights = get_total_norm([p.detach() for p in self.trained_parameters()])
        finite = math.isfinite(self._sum_of_losses) and math.isfinite(weights)
        if not self.trainer.strategy.reduce_boolean_decision(finite):
            raise TrainingDiverged(
                f"the training has diverged by step {self.global_step}: the loss or the weights "
                "are no longer finite. Checkpoints saved before are good; try a lower learning "
                "rate or --trainer.gradient_clip_val 1"
            )
