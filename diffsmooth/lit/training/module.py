"""What all training modules share: optimiser, random streams, steps' batches, checkpoints."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn

from diffsmooth.lit.data.images import Batch, Sample
from diffsmooth.lit.training.accumulation import (
    GRADIENTS_KEY,
    accumulated_gradients,
    put_back_gradients,
)
from diffsmooth.lit.training.averaging import save_average
from diffsmooth.lit.training.checkpoint_files import (
    RETURNED_KEY,
    count_saved_epoch,
    count_whole_epochs,
    forget_missing,
    read_trained,
    save_the_end,
    write_whole_checkpoints,
)
from diffsmooth.lit.training.compiling import compile_for_steps, compile_no_more
from diffsmooth.lit.training.divergence import StopDiverged
from diffsmooth.lit.training.learning_rate import LearningRate
from diffsmooth.lit.training.mean_over_images import MeanOverImages
from diffsmooth.lit.training.options import (
    PLAIN,
    SharedOptimizer,
    constructor_options,
    describe_optimizer,
    options_of,
)
from diffsmooth.lit.training.progress_bar import show_seldom
from diffsmooth.lit.training.randomness import DROPOUT, step_generator, step_seed
from diffsmooth.lit.training.resumption import begun_before, check_same_training, images_of
from diffsmooth.models.attacks.target import OUT_OF_RANGE
from diffsmooth.models.checkpoints.image_cards import Told
from diffsmooth.models.checkpoints.metadata import METHOD_KEY, SETTINGS_KEY
from diffsmooth.models.checkpoints.training_images import IMAGES_KEY
from diffsmooth.models.checkpoints.weights import (
    METADATA_KEY,
    Checkpoint,
    CheckpointMetadata,
    load_weights,
)
from diffsmooth.models.smoothing.noise import NoiseKey, draw_noise
from diffsmooth.stats.errors import UserError

ROUNDING = 1e-5  # by which transforms may leave [0, 1]


class TrainingModule(pl.LightningModule, ABC):
    """Base of the training modules.

    A step takes a batch of `ImageDataModule`, or a plain one, (images, labels) with the images
    (B, C, H, W) in [0, 1], or uint8, which is divided by 255. Plain ones do not say which images
    they are: the noise of validation and test then belongs to an image's position among those of
    its loader (on several devices, as torch's DistributedSampler deals them without shuffling).

    Args:
        optimizer: makes the optimiser from the parameters.
        learning_rate: the schedule of its learning rate.
        seed: the seed of the training noise, the augmentation and dropout, and of the noise of
            validation and test, >= 0. Each step also sets torch's global stream by it, from which a
            plain loader shuffles: repetitions need another `seed`, not `seed_everything` alone.
        measures: names of what validation and test measure of each image.
        compile: whether the steps' network is compiled, see `compile_for_steps`.

    Attributes:
        hparams: all options, as plain values, by their names; see `constructor_options`.
        lr: instead of the optimiser's own learning rate, to begin with; None: that one. Lightning's
            learning-rate finder sets it.
        begun_with: what the weights that the training began with, or goes on from, were trained on;
            None where they are random.
        purified_sigma: the noise level of the purification that a classifier's images had, in
            [0, 1] pixel units, None without; train.py sets it.
    """

    NEEDED: tuple[str, ...] = ()  # options that a checkpoint must say
    SHOWN: tuple[str, ...] = ()  # options that change pictures alone

    hparams: Any  # Lightning's property
    lr: float | None = None
    begun_with: Told | None = None
    purified_sigma: float | None = None

    def __init__(
        self,
        optimizer: OptimizerCallable,
        learning_rate: LearningRate,
        seed: int,
        measures: tuple[str, ...],
        compile: bool = False,
    ) -> None:
        super().__init__()
        if seed < 0:
            raise ValueError(f"seed must be >= 0, got {seed}")
        if isinstance(learning_rate, Mapping):  # as a checkpoint keeps it
            learning_rate = LearningRate(**learning_rate)
        self.save_hyperparameters(constructor_options(inspect.currentframe()), logger=False)  # type: ignore[arg-type]
        self._optimizer = SharedOptimizer(optimizer)
        self._learning_rate = learning_rate
        self.compiled = compile
        self._position = 0
        self._in_range: Tensor | bool = True
        self._gradients: dict[str, Tensor] = {}
        self.measured = measures
        self._means = nn.ModuleList(MeanOverImages() for _ in measures)

    @property
    @abstractmethod
    def network(self) -> nn.Module:
        """The network that is trained; its state dict is what a checkpoint is for."""

    @abstractmethod
    def metadata(self) -> CheckpointMetadata:
        """What the checkpoint says of its network, so that certify.py need not ask."""

    @abstractmethod
    def check_evaluated(self, checkpoint: Checkpoint) -> None:
        """Raises UserError for a file whose network these options would evaluate wrongly."""

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """Grids (3, height, width) in [0, 1] of a validation batch, by their tags."""
        return {}

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the network makes of its arguments."""
        return self.network(*args, **kwargs)

    def batch_of(self, batch: Batch | Sequence[Tensor], batch_idx: int) -> Batch:
        """A loader's batch with all its fields."""
        if isinstance(batch, Sample | Batch):  # PyTorch batches samples in their own class
            return Batch(*batch)
        image, label = batch
        if image.dtype == torch.uint8:
            image = image.float() / 255
        self.note_range(image)
        image = image.clamp(0, 1)  # what rounding has left out there
        first = 0 if batch_idx == 0 else self._position
        self._position = first + len(image)
        position = torch.arange(first, self._position, device=label.device)
        world, rank = self.trainer.world_size, self.trainer.global_rank
        return Batch(image, label, position * world + rank, torch.ones_like(position))

    def note_range(self, images: Tensor) -> None:
        """Notes whether images lie in [0, 1]; it is looked at later, see `check_range`."""
        inside = (images >= -ROUNDING) & (images <= 1 + ROUNDING)
        self._in_range = self._in_range & inside.all()

    def check_range(self) -> None:
        """Looks where the trainer logs, at an epoch's end and before each checkpoint.

        Not at each step, which would wait for the device.

        Raises:
            ValueError: an image since the training's begin was not in [0, 1].
        """
        if not self._in_range:
            raise ValueError(f"{OUT_OF_RANGE}, or be uint8; the input layer normalises them")

    def generator(self) -> torch.Generator:
        """The random stream of this training step on this rank."""
        step = self.trainer.fit_loop.total_batch_idx
        return step_generator(self.device, self.hparams.seed, self.global_rank, step)

    def noise_keys(self, batch: Batch, split: str) -> list[NoiseKey]:
        """Whose noise validation and test draw: an image's own, on any rank, in each epoch."""
        dataset, indices = self.metadata().dataset, batch.original_index.tolist()
        return [NoiseKey(self.hparams.seed, "evaluate", dataset, split, n) for n in indices]

    def draws(self, keys: list[NoiseKey], count: int, shape: torch.Size) -> Tensor:
        """Standard normal draws (B, count, C, H, W) of B images of shape (C, H, W)."""
        draws = [draw_noise(key, count, tuple(shape)) for key in keys]
        return torch.stack(draws).to(self.device)

    def measure(self, split: str, batch: Batch, name: str, values: Tensor) -> None:
        """Logs the mean of values (B,) over all images, the same on any number of devices."""
        mean = self._means[self.measured.index(name)]
        assert isinstance(mean, MeanOverImages)
        mean.update(batch.original_index, values)
        self.log(f"{split}/{name}", mean, prog_bar=True)

    def new_optimizer(self) -> torch.optim.Optimizer:
        """The optimiser.

        Raises:
            UserError: torch refuses its options.
        """
        try:
            optimizer = self._optimizer.make([p for p in self.parameters() if p.requires_grad])
        except (ValueError, TypeError, RuntimeError) as error:
            raise UserError(f"optimizer: {error}") from error
        if self.lr is not None:
            for said in (optimizer.defaults, *optimizer.param_groups):
                said["lr"] = self.lr
        return optimizer

    def settings(self) -> dict[str, Any]:
        """The options that a resumed training must share, beside `metadata`, by their names."""
        groups = {
            "learning_rate": self.hparams.learning_rate,
            "optimizer": describe_optimizer(self.new_optimizer()),
        }
        options = {name: value for name, value in self.hparams.items() if name not in self.SHOWN}
        told = self.metadata()._asdict()  # in its own form what is not given: overrides are {}
        options |= {name: told[name] for name in told if name in options and options[name] is None}
        for group, said in groups.items():
            options |= {f"{group}.{name}": value for name, value in said.items()}
        return {name: value for name, value in options.items() if isinstance(value, PLAIN)}

    def setup(self, stage: str) -> None:
        self._in_range = True
        if str(self.trainer.precision).endswith("true") and self.trainer.precision != "32-true":
            raise UserError(
                f"precision {self.trainer.precision} would round noise and weights: take 32-true, "
                "bf16-mixed or 16-mixed"
            )
        if stage != "fit":
            return
        write_whole_checkpoints(self.trainer)
        if self.trainer.strategy.root_device.type != "cpu":
            show_seldom(self.trainer)
        if self.compiled:
            compile_for_steps(self.network)

    def teardown(self, stage: str) -> None:
        compile_no_more(self.network)

    def configure_optimizers(self) -> Any:
        optimizer = self.new_optimizer()
        scheduler = self._learning_rate.scheduler(self.trainer, optimizer)
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]

    def on_fit_start(self) -> None:
        forget_missing(self.trainer)

    def on_train_start(self) -> None:
        count_saved_epoch(self.trainer)
        put_back_gradients(self, self._gradients)
        self._gradients = {}

    def on_train_epoch_end(self) -> None:
        self.check_range()
        save_the_end(self.trainer)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        # Dropout draws from the global stream: let it, too, depend on the seed, rank and step.
        step = self.trainer.fit_loop.total_batch_idx
        torch.manual_seed(step_seed(self.hparams.seed, self.global_rank, step, DROPOUT))

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        every: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined]  # 0: never
        if every and (batch_idx + 1) % every == 0:
            self.check_range()

    def on_validation_epoch_end(self) -> None:
        self.check_range()

    def on_test_epoch_end(self) -> None:
        self.check_range()

    def on_validation_epoch_start(self) -> None:
        # Each rank's batch norms have seen other images since the last forward pass of training.
        # Rank zero's statistics go into the checkpoint, so they are what is measured. Here, since
        # by now averaged weights are in place.
        if self.trainer.world_size > 1:
            for buffer in self.network.buffers():
                torch.distributed.broadcast(buffer, src=0)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.check_range()
        # Callbacks are not asked where weights alone are saved.
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, StopDiverged):
                callback.look(self.trainer, self)
            if isinstance(callback, WeightAveraging) and "optimizer_states" not in checkpoint:
                save_average(callback, self.trainer, self, checkpoint)
        checkpoint[METADATA_KEY] = self.metadata()._asdict()
        checkpoint[METHOD_KEY] = type(self).__name__
        checkpoint[SETTINGS_KEY] = self.settings()
        optimizer = describe_optimizer(self.new_optimizer())
        checkpoint[self.CHECKPOINT_HYPER_PARAMS_KEY] |= {"optimizer": optimizer}
        checkpoint[RETURNED_KEY] = self.trainer.state.finished
        whole = "optimizer_states" in checkpoint
        if whole and (gradients := accumulated_gradients(self, self.trainer)):
            checkpoint[GRADIENTS_KEY] = gradients
        record = images_of(self.trainer, self.begun_with)
        if record is not None:
            checkpoint[IMAGES_KEY] = record._asdict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Before a training goes on from it, and before anything is loaded.

        Raises:
            UserError: the checkpoint is of another training.
        """
        if self._trainer is not None:  # `load_from_checkpoint` has none, and may change options
            asked = {"method": type(self).__name__, **self.metadata()._asdict(), **self.settings()}
            check_same_training(checkpoint, asked, self.trainer.ckpt_path)
            count_whole_epochs(checkpoint)
            self._gradients = checkpoint.get(GRADIENTS_KEY, {})
        self.begun_with = begun_before(checkpoint, self.begun_with)

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]  # Lightning's is no plain class method
        cls,
        checkpoint_path: Path | str,
        map_location: Any = None,
        hparams_file: Path | str | None = None,
        strict: bool | None = None,
        weights_only: bool | None = True,
        **kwargs: Any,
    ) -> Self:
        """The training module of a checkpoint, with its options and weights (the averaged ones).

        Checkpoints that do not keep their options (older ones, exported ones, the field's) say some
        of them; the others, but for those below, are the defaults.

        Args:
            checkpoint_path: a file of this method's training, or one with weights alone.
            map_location, strict: as in Lightning; of a file of weights alone only the first counts.
            hparams_file: refused: options are given by their names.
            weights_only: not used: no file may run code.
            **kwargs: options, instead of what the file says.

        Raises:
            UserError: see `read_checkpoint`; of another method; an option that the file does not
                say, and that no default can stand for.
        """
        if hparams_file is not None:
            raise UserError("hparams_file: give the options by their names")
        checkpoint = read_trained(checkpoint_path)
        method = checkpoint.training.get(METHOD_KEY, "")
        if method not in ("", cls.__name__):
            raise UserError(f"{checkpoint_path}: was trained by {method}, not by {cls.__name__}")
        options = options_of(checkpoint, cls.NEEDED, kwargs)
        if method:
            module = super().load_from_checkpoint(
                checkpoint_path, map_location, hparams_file, strict, weights_only=True, **options
            )
        else:
            module = cls(**options)
            load_weights(module.network, checkpoint)
            module = module.to(map_location)
        module.purified_sigma = checkpoint.metadata.purified_sigma
        return module
