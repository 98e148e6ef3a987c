"""What the training methods of base classifiers share; a method adds its loss."""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torch.nn import functional as F

from diffsmooth.lit.data.images import Batch
from diffsmooth.lit.data.module import ImageDataModule
from diffsmooth.lit.data.sources import describe_dataset
from diffsmooth.lit.saying import say
from diffsmooth.lit.training.learning_rate import LearningRate
from diffsmooth.lit.training.module import TrainingModule
from diffsmooth.lit.training.pictures import noisy_grid
from diffsmooth.lit.training.randomness import random_crop, random_flip, shuffle_views
from diffsmooth.models.attacks.target import noted_ranges
from diffsmooth.models.checkpoints.formats import read_checkpoint
from diffsmooth.models.checkpoints.image_cards import training_images_of
from diffsmooth.models.checkpoints.loading import load_pretrained
from diffsmooth.models.checkpoints.metadata import LARGEST_SIGMA
from diffsmooth.models.checkpoints.weights import Checkpoint, CheckpointMetadata
from diffsmooth.models.classifiers.architectures import Classifier, build_classifier
from diffsmooth.models.classifiers.cifar_resnet import CifarResNet
from diffsmooth.models.classifiers.dataset_info import DatasetInfo, misplaced
from diffsmooth.models.classifiers.input_layers import build_input_layer
from diffsmooth.models.classifiers.logits import in_eval_mode, show_black
from diffsmooth.shown_text import LONGEST_WORD, quoted
from diffsmooth.stats.errors import UserError
from diffsmooth.stats.printed import counted


def default_sgd(parameters: Iterable[Any]) -> torch.optim.Optimizer:
    """SGD as in Cohen et al. 2019: lr 0.1, momentum 0.9, weight decay 1e-4."""
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=1e-4)


class Losses(NamedTuple):
    """What a method makes of a batch.

    Attributes:
        each: the loss (B,) of each image.
        logits: (B, K), of one noisy copy of each image, for the accuracy.
    """

    each: Tensor
    logits: Tensor


class ClassifierTraining(TrainingModule):
    """Trains a base classifier under noise of level sigma.

    Args:
        arch: cifar_resnetD (D = 6n + 2), any timm name, or a network of your own, from images
            behind the input layer to logits; its checkpoints do not name an architecture then.
        dataset: a name or a path as in `ImageDataModule`, or the facts themselves: channels,
            classes and normalisation. train.py takes them from there.
        sigma: standard deviation of the training noise (sigma' in the DiffSmooth paper), in [0, 1]
            pixel units; 0 trains on clean images.
        input_layer: standard, center, none, or MEAN,STD such as `0.5,0.5`.
        pretrained: checkpoint to start from; its head is taken if it has as many classes.
        crop_padding: random crops after zero-padding by so many pixels; 0 where the data module
            crops at random scales.
        flip: random horizontal flips.
        optimizer: any torch optimiser.
        learning_rate: its schedule.
        seed: the seed of the training noise, the augmentation and dropout, see `TrainingModule`:
            repetitions need another one, not `seed_everything` alone.
        compile: compile the network for the training's steps.

    Raises:
        ValueError: sigma or crop_padding out of range, or an unknown architecture, dataset or
            input layer; a pretrained checkpoint that cannot be read or does not fit.
    """

    NEEDED = ("arch", "dataset", "input_layer", "sigma")

    def __init__(
        self,
        arch: str | nn.Module = "cifar_resnet20",
        dataset: str | DatasetInfo = "fashion_mnist",
        sigma: float = 0.25,
        input_layer: str = "standard",
        pretrained: str | None = None,
        crop_padding: int = 4,
        flip: bool = True,
        optimizer: OptimizerCallable = default_sgd,
        learning_rate: LearningRate = LearningRate(),
        seed: int = 0,
        compile: bool = False,
    ) -> None:
        super().__init__(optimizer, learning_rate, seed, ("loss", "noisy_accuracy"), compile)
        if not 0 <= sigma <= LARGEST_SIGMA:  # beyond, no one could read the checkpoint
            raise ValueError(f"sigma must be in 0 .. {LARGEST_SIGMA:g}, got {sigma}")
        self._info = describe_dataset(dataset)
        self.hparams.dataset = self._info._asdict()  # without its files, wherever it is loaded
        side = min(self._info.image_shape[1:])
        if not 0 <= crop_padding < side:
            raise ValueError(f"crop_padding must be >= 0 and below {side}, got {crop_padding}")
        classes = self._info.num_classes
        if classes < 2:
            raise ValueError(f"{self._info.name} has {counted(classes, 'class')}: two at least")
        if isinstance(arch, str):
            self._arch = arch
            self.classifier = build_classifier(arch, classes, input_layer, self._info)
        else:
            self._arch = type(arch).__name__
            self.classifier = Classifier(build_input_layer(input_layer, self._info), arch)
        self.classifier.to(memory_format=torch.channels_last)  # convolutions are faster so
        if pretrained is not None:
            checkpoint = read_checkpoint(pretrained)
            load_pretrained(self.classifier, checkpoint)
            self.begun_with = training_images_of(checkpoint)
            if checkpoint.note:
                say(checkpoint.note)
            if other := _other_layer(checkpoint, input_layer, self._info):
                say(f"note: {other}")

    def setup(self, stage: str) -> None:
        if type(self.classifier[1]) is not CifarResNet:  # which takes images of any size
            self._check_logits()
        data = getattr(self.trainer, "datamodule", None)
        if stage == "fit" and isinstance(data, ImageDataModule) and not self.trainer.ckpt_path:
            data.check_classes()  # a training that was begun before goes on
        super().setup(stage)

    def _check_logits(self) -> None:
        """Raises UserError for a network that cannot take the images, or gives other logits."""
        shape, classes = self._info.image_shape, self._info.num_classes
        output = show_black(self.classifier, shape, self._arch)
        is_tensor = isinstance(output, Tensor)
        given = tuple(output.shape) if is_tensor else f"a {type(output).__name__}"
        if given != (1, classes):
            raise UserError(
                f"{self._arch}: gives {given} for an image of {self._info.name}, wanted are "
                f"logits (1, {classes}), of {counted(classes, 'class')}"
            )

    @abstractmethod
    def losses(self, views: Tensor, labels: Tensor, generator: torch.Generator) -> Losses:
        """The method's loss.

        Args:
            views: (B, V, C, H, W), in [0, 1], augmented. V = 1: the image; or else V independently
                purified draws of it, in random order.
            labels: int64 (B,).
            generator: the step's random stream.
        """

    def check_views(self, count: int) -> None:
        """Raises UserError if the method has no use for so many purified draws of each image."""

    def noise(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """sigma times a standard normal draw, shaped like `images`."""
        draw = torch.randn(images.shape, device=images.device, generator=generator)
        return self.hparams.sigma * draw

    def noisy_copies(self, views: Tensor, m: int, generator: torch.Generator) -> Tensor:
        """m noisy copies (B * m, C, H, W) of each image, image-major, each with its own noise.

        Of several views (B, V, C, H, W) the copies take turns.
        """
        turns = torch.arange(m, device=views.device) % views.shape[1]
        copies = views[:, turns].flatten(0, 1)
        return copies + self.noise(copies, generator)

    @contextmanager
    def attacked_network(self) -> Iterator[nn.Module]:
        """The classifier in eval mode: an attack must not move batch-norm statistics.

        Its parameters take no gradients there. Whether what was attacked lies in [0, 1] is looked
        at later, see `check_range`: it would wait for the device.
        """
        trained = [p for p in self.classifier.parameters() if p.requires_grad]
        for parameter in trained:
            parameter.requires_grad_(False)
        try:
            with noted_ranges() as noted, in_eval_mode(self.classifier):
                yield self.classifier
        finally:
            for parameter in trained:
                parameter.requires_grad_(True)
        for in_range in noted:
            self._in_range = self._in_range & in_range

    @property
    def network(self) -> nn.Module:
        return self.classifier

    def metadata(self) -> CheckpointMetadata:
        return CheckpointMetadata(
            kind="classifier",
            dataset=self._info.name[:LONGEST_WORD],
            arch=self.hparams.arch,
            input_layer=self.hparams.input_layer,
            image_shape=list(self._info.image_shape),
            class_names=list(self._info.class_names),
            mean=list(self._info.mean),
            std=list(self._info.std),
            sigma=self.hparams.sigma,
            purified_sigma=self.purified_sigma,
        )

    def check_evaluated(self, checkpoint: Checkpoint) -> None:
        told, own = checkpoint.metadata, self._info.class_names
        if layer := _other_layer(checkpoint, self.hparams.input_layer, self._info):
            raise UserError(f"{layer}: --model.init_args.input_layer says which one")
        if (label := misplaced(told.class_names, own)) is not None:
            raise UserError(
                f"{checkpoint.path}: label {label} is {quoted(told.class_names[label])}, of "
                f"{self._info.name} {quoted(own[label])}: the classes are in another order"
            )

    def training_step(self, batch: Batch | Sequence[Tensor], batch_idx: int) -> Tensor:
        batch, generator = self.batch_of(batch, batch_idx), self.generator()
        views = shuffle_views(_views(batch), generator)
        if self.hparams.flip:
            views = random_flip(views, generator)
        if self.hparams.crop_padding:
            views = random_crop(views, self.hparams.crop_padding, generator)
        losses, logits = self.losses(views, batch.label, generator)
        loss = (batch.weight.to(losses) * losses).mean()
        self.log("train/loss", loss, prog_bar=True)
        right = logits.argmax(dim=1) == batch.label
        self.log("train/noisy_accuracy", right.float().mean(), prog_bar=True)
        return loss

    def validation_step(self, batch: Batch | Sequence[Tensor], batch_idx: int) -> None:
        self._evaluate(self.batch_of(batch, batch_idx), "val")

    def test_step(self, batch: Batch | Sequence[Tensor], batch_idx: int) -> None:
        self._evaluate(self.batch_of(batch, batch_idx), "test")

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """Images, and the same under noise: in the first epoch, for later it is the same noise."""
        if self.current_epoch:
            return {}
        return {"val/noisy": noisy_grid(_views(batch)[:, 0], self._noisy(batch, "val"))}

    def _noisy(self, batch: Batch, split: str) -> Tensor:
        """(B, C, H, W), under each image's own noise of validation or test."""
        views = _views(batch)
        noise = self.draws(self.noise_keys(batch, split), 1, views.shape[2:])
        return views[:, 0] + self.hparams.sigma * noise[:, 0]

    def _evaluate(self, batch: Batch, split: str) -> None:
        logits = self.classifier(self._noisy(batch, split)).float()
        losses = F.cross_entropy(logits, batch.label, reduction="none")
        right = (logits.argmax(dim=1) == batch.label) & ~logits.isnan().any(dim=1)
        self.measure(split, batch, "loss", losses)
        self.measure(split, batch, "noisy_accuracy", right)


def _views(batch: Batch) -> Tensor:
    """(B, V, C, H, W): a batch of images is one of single views."""
    return batch.image if batch.image.ndim == 5 else batch.image[:, None]


def ramp(epoch: int, epochs: int) -> float:
    """(epoch + 1) / epochs, at most 1: the linear warm-up of attacks and of SmoothMix's loss."""
    return min(1.0, (epoch + 1) / max(epochs, 1))


def _other_layer(checkpoint: Checkpoint, layer: str, info: DatasetInfo) -> str:
    """That weights are of a network behind another input layer, as far as their file says."""
    told = checkpoint.metadata.input_layer
    theirs = checkpoint.metadata.dataset_info or info
    if not told or (told, theirs.mean, theirs.std) == (layer, info.mean, info.std):
        return ""
    if told == layer and told not in ("standard", "center"):
        return ""
    of = f" of {theirs.name}" if told == layer else ""
    return f"{checkpoint.path} was trained behind input layer {told}{of}, not {layer}"
