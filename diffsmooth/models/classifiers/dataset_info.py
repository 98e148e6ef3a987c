"""What the models need to know of a dataset: shape, classes, and the usual normalisation."""

from collections.abc import Sequence
from typing import NamedTuple

from diffsmooth.stats.errors import UserError


class DatasetInfo(NamedTuple):
    """A dataset's facts.

    Attributes:
        name: as on the command line.
        image_shape: (C, H, W) of the images that the noise is added to.
        class_names: one a class, in the order of the labels.
        mean, std: the "standard" input layer's, per channel, in [0, 1] pixel units; empty where
            there is no convention.
    """

    name: str
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    @property
    def num_classes(self) -> int:
        return len(self.class_names)


FASHION_MNIST = DatasetInfo(
    "fashion_mnist",
    (1, 32, 32),
    (
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag",
        "Ankle boot",
    ),
    mean=(0.2860,),
    std=(0.3530,),
)  # fmt: skip

# Mean and standard deviation as in the published code of Cohen et al. 2019.
CIFAR10 = DatasetInfo(
    "cifar10",
    (3, 32, 32),
    ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2023, 0.1994, 0.2010),
)


def _imagenet() -> DatasetInfo:
    from timm.data import ImageNetInfo  # timm takes seconds to import

    names = tuple(ImageNetInfo().label_descriptions())
    return DatasetInfo(
        "imagenet", (3, 224, 224), names, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
    )


def wordnet_ids() -> list[str]:
    """The names of ImageNet's class folders, in the order of the labels."""
    from timm.data import ImageNetInfo

    return list(ImageNetInfo().label_names())


def misplaced(names: Sequence[str], own: Sequence[str]) -> int | None:
    """The first label whose name is another label's in `own`; None where no name tells.

    Names that are missing or repeated in one of them tell nothing.
    """
    for label, name in enumerate(names):
        if names.count(name) == own.count(name) == 1 and own.index(name) != label:
            return label
    return None


def get_dataset_info(name: str) -> DatasetInfo:
    """Facts about the dataset called `name`: fashion_mnist, cifar10 or imagenet.

    Raises:
        UserError: unknown name (the known ones are listed).
    """
    if name == "imagenet":
        return _imagenet()
    known = {"fashion_mnist": FASHION_MNIST, "cifar10": CIFAR10}
    if name not in known:
        raise UserError(f"unknown dataset {name!r}: known are {', '.join([*known, 'imagenet'])}")
    return known[name]
