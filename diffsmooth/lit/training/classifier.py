"""What the training methods of base classifiers share; a method adds its loss."""

from abc import abstractmethod
from collections.abc import Iterable
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy

from diffsmooth.lit.data.images import Batch
from diffsmooth.lit.data.sources import describe_dataset
from diffsmooth.lit.training.augment import random_crop, random_flip
from diffsmooth.lit.training.learning_rate import LearningRate
from diffsmooth.lit.training.module import TrainingModule
from diffsmooth.models.classifiers import build_classifier
from diffsmooth.models.weights import CheckpointMetadata


def default_sgd(parameters: Iterable[Any]) -> torch.optim.Optimizer:
    """SGD as in Cohen et al. 2019: lr 0.1, momentum 0.9, weight decay 1e-4."""
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=1e-4)


class ClassifierTraining(TrainingModule):
    """Trains a base classifier under noise of level sigma.

    Args:
        arch: cifar_resnetD (D = 6n + 2) or any timm name.
        dataset: as in `ImageDataModule`: gives channels, classes and normalisation. train.py takes
            it from there.
        sigma: standard deviation of the training noise (sigma' in the DiffSmooth paper), in [0, 1]
            pixel units; 0 trains on clean images.
        input_layer: standard, center or none.
        crop_padding: random crops after zero-padding by so many pixels.
        flip: random horizontal flips.
        optimizer: any torch optimiser.
        learning_rate: its schedule.
        seed: of the training noise and the augmentation.

    Raises:
        ValueError: sigma < 0, crop_padding < 0, or an unknown architecture, dataset or input layer.
    """

    def __init__(
        self,
        arch: str = "cifar_resnet20",
        dataset: str = "fashion_mnist",
        sigma: float = 0.25,
        input_layer: str = "standard",
        crop_padding: int = 4,
        flip: bool = True,
        optimizer: OptimizerCallable = default_sgd,
        learning_rate: LearningRate = LearningRate(),
        seed: int = 0,
    ) -> None:
        super().__init__(optimizer, learning_rate, seed)
        if not sigma >= 0:
            raise ValueError(f"sigma must be >= 0, got {sigma}")
        if crop_padding < 0:
            raise ValueError(f"crop_padding must be >= 0, got {crop_padding}")
        self._arch = arch
        self._info = describe_dataset(dataset)
        self._sigma = sigma
        self._input_layer = input_layer
        self._crop_padding = crop_padding
        self._flip = flip
        classes = self._info.num_classes
        self.classifier = build_classifier(arch, classes, input_layer, self._info)
        self.train_accuracy = MulticlassAccuracy(classes, average="micro")
        self.noisy_accuracy = MulticlassAccuracy(classes, average="micro")

    @abstractmethod
    def training_loss(
        self, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """The method's loss.

        Args:
            images: (B, C, H, W), clean and augmented, in [0, 1].
            labels: int64 (B,).
            generator: the step's random stream.

        Returns:
            The loss (scalar), and the logits (B, K) of noisy images, for the accuracy.
        """

    def noise(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """sigma times a standard normal draw, shaped like `images`."""
        draw = torch.randn(images.shape, device=images.device, generator=generator)
        return self._sigma * draw

    @property
    def network(self) -> nn.Module:
        return self.classifier

    def metadata(self) -> CheckpointMetadata:
        return CheckpointMetadata(
            kind="classifier",
            dataset=self._info.name,
            arch=self._arch,
            input_layer=self._input_layer,
            image_shape=list(self._info.image_shape),
            class_names=list(self._info.class_names),
            mean=list(self._info.mean),
            std=list(self._info.std),
            sigma=self._sigma,
        )

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        generator = self.generator(batch_idx)
        images, labels = batch.image, batch.label
        if self._flip:
            images = random_flip(images, generator)
        if self._crop_padding:
            images = random_crop(images, self._crop_padding, generator)
        loss, logits = self.training_loss(images, labels, generator)
        self.train_accuracy(logits, labels)
        self.log("train/loss", loss, prog_bar=True)
        self.log("train/noisy_accuracy", self.train_accuracy, prog_bar=True)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._evaluate(batch, batch_idx, "val")

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self._evaluate(batch, batch_idx, "test")

    def _evaluate(self, batch: Batch, batch_idx: int, split: str) -> None:
        noise = self.noise(batch.image, self.generator(batch_idx))
        logits = self.classifier(batch.image + noise)
        self.noisy_accuracy(logits, batch.label)
        loss = torch.nn.functional.cross_entropy(logits, batch.label)
        self.log(f"{split}/loss", loss, sync_dist=True)
        self.log(f"{split}/noisy_accuracy", self.noisy_accuracy, prog_bar=True)
