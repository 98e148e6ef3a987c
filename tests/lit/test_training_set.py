"""What a training is shown: crops, resizing, pseudo-labelled images, and what an epoch is."""

import warnings
from collections import Counter
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from pictures import coloured, exif, png, write_classes
from PIL import Image
from stripes import StopAfter, make_data, make_trainer, write_stripes
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision import transforms  # the first interface, which the published code calls

from diffsmooth.cli import train
from diffsmooth.lit.data import ImageDataModule, ImageSet, Reading, Sample, load_images
from diffsmooth.lit.data.folder import FolderImages
from diffsmooth.lit.data.images import DataError
from diffsmooth.lit.data.purified import Purification
from diffsmooth.lit.data.reading import box_bicubic
from diffsmooth.lit.data.sources import describe_dataset
from diffsmooth.lit.data.training_set import Address, TrainingOrder, TrainingSet
from diffsmooth.lit.training import DiffusionTraining, GaussianTraining
from diffsmooth.models.classifiers.dataset_info import DatasetInfo
from diffsmooth.pipeline.train_checks import check_images
from diffsmooth.stats.errors import UserError

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*num_workers.*|.*logging interval.*|Checkpoint directory.*|The dirpath has changed.*"
)

Batches = list[list[int]]


def flat(batches: Iterable[list[int]]) -> list[int]:
    return list(chain.from_iterable(batches))


def bytes_of(image: Tensor) -> Tensor:
    """The 8 bits a channel that an image came from, whichever way it was divided by 255."""
    assert (255 * image - (255 * image).round()).abs().max() < 1e-4
    return (255 * image).round().to(torch.uint8)


class Counted(ImageSet):
    """Images of one pixel, whose value is their number."""

    def __init__(self, count: int) -> None:
        self.info = DatasetInfo("counted", (1, 1, 1), ("a", "b"))
        self.labels = np.zeros(count, np.int64)

    def __getitem__(self, index: int) -> Sample:
        return Sample(torch.full((1, 1, 1), float(index)), 0, index)


def epochs_batches(
    labelled: int,
    rows: int,
    extra: int | None = None,
    epoch: int = 0,
    ranks: int = 1,
    rank: int = 0,
    **options: Any,
) -> Batches:
    """The indices of a rank's batches, as the loader cuts them."""
    images = TrainingSet(
        Counted(labelled), list(range(labelled)), None if extra is None else Counted(extra)
    )
    options = {"drop_last": False, "seed": 0} | options
    order = TrainingOrder(images, rows, num_replicas=ranks, rank=rank, **options)
    order.set_epoch(epoch)
    addresses = list(order)
    assert len(addresses) == len(order)
    assert {address.epoch for address in addresses} <= {epoch}
    indices = [address.image for address in addresses]
    return [indices[start : start + rows] for start in range(0, len(indices), rows)]


def test_an_epoch_of_cifar_10_has_the_published_196_steps() -> None:
    batches = epochs_batches(50_000, 256)
    assert [len(batch) for batch in batches] == [256] * 195 + [80]
    assert sorted(flat(batches)) == list(range(50_000))
    assert len(epochs_batches(50_000, 256, drop_last=True)) == 195
    again, later = epochs_batches(50_000, 256), epochs_batches(50_000, 256, epoch=1)
    assert batches == again
    assert batches[0] != later[0]
    assert batches[0] != epochs_batches(50_000, 256, seed=7)[0]


@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_have_as_many_and_the_same_batches_together(ranks: int) -> None:
    alone = epochs_batches(101, 12)
    shares = [epochs_batches(101, 12 // ranks, ranks=ranks, rank=r) for r in range(ranks)]
    assert len({tuple(map(len, share)) for share in shares}) == 1
    for k, whole in enumerate(alone[:-1]):
        assert sorted(flat(share[k] for share in shares)) == sorted(whole)
    dealt = Counter(index for share in shares for batch in share for index in batch)
    assert len(dealt) == 101
    assert sum(dealt.values()) == -(-101 // ranks) * ranks  # some twice, to go round


@pytest.mark.parametrize(
    ("labelled", "rows", "drop_last", "sizes"),
    [
        (9, 4, False, [4, 4]),  # a batch of one is left out
        (10, 4, False, [4, 4, 2]),
        (10, 4, True, [4, 4]),
        (8, 4, False, [4, 4]),
        (3, 4, False, [3]),  # fewer than a batch
        (3, 1, False, [1, 1, 1]),  # as asked
        (1, 4, False, []),
        (3, 4, True, []),
    ],
)
def test_the_last_batch(labelled: int, rows: int, drop_last: bool, sizes: list[int]) -> None:
    assert [len(b) for b in epochs_batches(labelled, rows, drop_last=drop_last)] == sizes


def test_an_epoch_of_self_training_has_two_batches_for_each_labelled_one() -> None:
    kinds = []
    for epoch in range(2):
        batches = epochs_batches(50_000, 256, extra=500_000, epoch=epoch)
        assert len(batches) == 392
        extra = [min(batch) >= 50_000 for batch in batches]
        for batch, beyond in zip(batches, extra, strict=True):
            assert all((index >= 50_000) == beyond for index in batch)
            assert len(batch) == (256 if batch is not batches[-1] else 80)
        own = flat(b for b, beyond in zip(batches, extra, strict=True) if not beyond)
        others = flat(b for b, beyond in zip(batches, extra, strict=True) if beyond)
        assert sorted(own) == list(range(50_000))
        assert len(set(others)) == len(others) == 196 * 256
        kinds.append((extra, own, others))
    assert kinds[0][0] != kinds[1][0]
    assert kinds[0][1] != kinds[1][1]
    # Drawn anew: of 500,000 about a tenth of these, too.
    assert 0.08 < len(set(kinds[0][2]) & set(kinds[1][2])) / (196 * 256) < 0.12
    # At random places: 195 labelled batches among the first 391, half of them in either half.
    assert 70 < sum(kinds[0][0][:196]) < 126


def test_too_few_extra_images_come_again_as_often_as_one_another() -> None:
    batches = epochs_batches(20, 4, extra=6)
    dealt = Counter(index for batch in batches for index in batch)
    assert [dealt[index] for index in range(20)] == [1] * 20
    assert sorted(dealt[index] for index in range(20, 26)) == [3, 3, 3, 3, 4, 4]


def test_ranks_take_turns_alike() -> None:
    whole = epochs_batches(20, 4, extra=40, epoch=3)
    ranks = [epochs_batches(20, 2, extra=40, epoch=3, ranks=2, rank=rank) for rank in (0, 1)]
    kinds = [[min(batch) >= 20 for batch in batches] for batches in (whole, *ranks)]
    assert kinds[0] == kinds[1] == kinds[2]
    for k, batch in enumerate(whole):
        assert sorted(ranks[0][k] + ranks[1][k]) == sorted(batch)


def imagenet(folder: Path) -> Path:
    """Four pictures of ImageNet, of three shapes."""
    for split in ("train", "val"):
        for name, k in (("n01514668", 0), ("n12144580", 1)):
            (folder / split / name).mkdir(parents=True)
            coloured(375, 500, seed=k).save(folder / split / name / "a.png")
            coloured(300 + 211 * k, 233, seed=k).save(folder / split / name / "b.png")
    return folder


def seed_of(seed: int, epoch: int, index: int, part: int) -> int:
    (word,) = np.random.SeedSequence((seed, epoch, index, part)).generate_state(1, np.uint64)
    return int(word) // 2


def test_crops_are_torchvisions_under_a_seed_of_the_image_and_the_epoch(tmp_path: Path) -> None:
    images = load_images("imagenet", imagenet(tmp_path), "train")
    assert isinstance(images, FolderImages)
    training = TrainingSet(images, [2, 0, 3], images, extra_weight=0.5, crop_seed=11)
    torch.manual_seed(5)
    expected_stream = torch.rand(3)
    torch.manual_seed(5)
    seen = {}
    for epoch in (0, 1):
        for place, (index, part) in enumerate([(2, 0), (0, 0), (3, 0), (0, 1)]):
            seen[epoch, place] = training[Address(epoch, place)]
            with torch.random.fork_rng():
                torch.manual_seed(seed_of(11, epoch, index, part))
                published = transforms.Compose(
                    [transforms.RandomResizedCrop(224), transforms.ToTensor()]
                )
                expected = published(Image.open(images.paths[index]).convert("RGB"))
            assert torch.equal(bytes_of(seen[epoch, place].image), bytes_of(expected))
            assert seen[epoch, place].original_index == index
            assert seen[epoch, place].weight == (0.5 if part else 1.0)
    assert torch.equal(torch.rand(3), expected_stream)
    assert not torch.equal(seen[0, 0].image, seen[1, 0].image)
    assert torch.equal(training[1].image, seen[0, 1].image)


def test_crops_of_ones_own_pictures(tmp_path: Path) -> None:
    root = write_classes(tmp_path / "pets", size=(40, 60))
    Image.open(root / "cat" / "0.png").save(root / "cat" / "0.png", exif=exif(6))
    deep = np.random.default_rng(0).integers(0, 2**16, (60, 40, 3)).astype(np.uint16)
    (root / "cat" / "1.png").write_bytes(png(deep, 2))
    reading = Reading(24, "apply")
    images = load_images(str(root), reading=reading)
    assert isinstance(images, FolderImages)
    crop = transforms.RandomResizedCrop(24)
    for index, path in enumerate(images.paths):
        if path.name == "1.png" and path.parent.name == "cat":
            picture = torch.from_numpy(deep / (2**16 - 1)).permute(2, 0, 1).float()
        else:
            picture = transforms.ToTensor()(Image.open(path))
            picture = torch.rot90(picture, -1, (1, 2)) if index == 0 else picture
        torch.manual_seed(3)
        expected = crop(picture)
        seen = images.randomly_cropped(index, 3).image
        torch.testing.assert_close(seen, expected, atol=0.51 / 255, rtol=0)
        assert torch.equal(255 * seen, (255 * seen).round())
    plain = load_images(str(write_classes(tmp_path / "same", size=(40, 60))))
    assert isinstance(plain, FolderImages)
    assert plain.randomly_cropped(0, 3).image.shape == plain[0].image.shape == (3, 40, 60)


def folder_data(folder: Path, **changes: Any) -> ImageDataModule:
    options = {"batch_size": 4, "validation_images": 3, "seed": 1} | changes
    return ImageDataModule(str(folder), **options)


def shown(data: ImageDataModule, epoch: int, ranks: int = 1, rank: int = 0) -> dict[int, Tensor]:
    """The images of an epoch by their index, as a rank's loader gives them."""
    device = SimpleNamespace(root_device=torch.device("cpu"))
    progress = SimpleNamespace(current=SimpleNamespace(ready=0))  # an epoch begins
    loop = SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=progress))
    data.trainer = SimpleNamespace(  # type: ignore[assignment]
        world_size=ranks, global_rank=rank, is_global_zero=False, strategy=device, fit_loop=loop,
        limit_val_batches=1.0,
    )  # fmt: skip
    data.setup("fit")
    loader: DataLoader[Sample] = data.train_dataloader()
    found = {}
    for past in range(epoch + 1):  # the same processes throughout
        loader.sampler.set_epoch(past)  # type: ignore[attr-defined]  # as Lightning does
        found = {}
        for batch in loader:
            found.update(zip(batch.original_index.tolist(), batch.image, strict=True))
    return found


def same(first: dict[int, Tensor], second: dict[int, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def test_any_number_of_workers_and_ranks_see_the_same_crops(tmp_path: Path) -> None:
    root = write_classes(tmp_path / "pets", each=7, size=(20, 24))
    alone = [shown(folder_data(root, random_resized_crop=True), epoch) for epoch in (0, 1)]
    assert len(alone[0]) == 11
    assert not any(torch.equal(alone[0][k], alone[1][k]) for k in alone[0])
    workers = folder_data(root, random_resized_crop=True, workers=2)
    assert same(shown(workers, 1), alone[1])
    ranks = [shown(folder_data(root, random_resized_crop=True), 1, 2, r) for r in (0, 1)]
    assert all(torch.equal(ranks[0][k], ranks[1][k]) for k in ranks[0].keys() & ranks[1].keys())
    assert same(ranks[0] | ranks[1], alone[1])
    other = shown(folder_data(root, random_resized_crop=True, seed=2), 1)
    assert not any(torch.equal(other[k], alone[1][k]) for k in other.keys() & alone[1].keys())


def test_validation_and_what_is_certified_are_not_cropped(tmp_path: Path) -> None:
    root = imagenet(tmp_path)
    data = ImageDataModule("imagenet", str(root), random_resized_crop=True, validation_images=0)
    data.setup("fit")
    published = transforms.Compose(
        [transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor()]
    )
    test = load_images("imagenet", root)
    assert isinstance(test, FolderImages)
    for index, path in enumerate(test.paths):
        expected = bytes_of(published(Image.open(path).convert("RGB")))
        assert torch.equal(bytes_of(test[index].image), expected)
        assert torch.equal(bytes_of(data.validation[index].image), expected)
        assert not torch.equal(bytes_of(data.train[index].image), expected)
    held_out = ImageDataModule("imagenet", str(root), random_resized_crop=True, validation_images=2)
    held_out.setup("fit")
    assert torch.equal(held_out.validation[1].image, held_out.validation[1].image)
    plain = load_images("imagenet", root, "train")
    index = held_out.validation[1].original_index
    assert torch.equal(held_out.validation[1].image, plain[index].image)


def test_random_crops_are_for_files(tmp_path: Path) -> None:
    stripes = write_stripes(tmp_path / "stripes")
    data = ImageDataModule("fashion_mnist", str(stripes), random_resized_crop=True)
    data.validation_images = 10
    with pytest.raises(DataError, match="random_resized_crop is for images in files, fashion_mnis"):
        data.setup("fit")
    root = write_classes(tmp_path / "pets", each=4)
    np.savez(tmp_path / "x.npz", images=np.zeros((2, 8, 8, 3), np.uint8), labels=np.arange(2))
    extra = str(tmp_path / "x.npz")
    folder_data(root, extra=extra).setup("fit")
    with pytest.raises(DataError, match=r"is for images in files, x is arrays"):
        folder_data(root, extra=extra, random_resized_crop=True).setup("fit")
    (tmp_path / "unet.pt").touch()
    purified = Purification(str(tmp_path / "unet.pt"), 0.25)
    with pytest.raises(DataError, match="random_resized_crop and purified do not go together"):
        folder_data(root, purified=purified, random_resized_crop=True)
    with pytest.raises(DataError, match="resize box_bicubic and purified do not go together"):
        folder_data(root, purified=purified, resize="box_bicubic")
    with pytest.raises(DataError, match="random_resized_crop and resize box_bicubic do not go"):
        folder_data(root, random_resized_crop=True, resize="box_bicubic")


def test_box_halves_by_means_of_four() -> None:
    values = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    quarter = box_bicubic(Image.fromarray(values), 16)
    means = values.reshape(16, 4, 16, 4, 3).mean(axis=(1, 3))
    # Two halvings, each of which rounds twice.
    assert np.abs(np.asarray(quarter) - means).max() < 2
    assert np.asarray(quarter).std() == pytest.approx(means.std(), rel=0.02)
    exact = (values.reshape(32, 2, 32, 2, 3).astype(int).sum(axis=(1, 3)) + 2) // 4
    half = np.asarray(box_bicubic(Image.fromarray(values), 32))
    assert np.abs(half.astype(int) - exact).max() <= 1


@pytest.mark.parametrize(
    ("size", "side", "halved", "resized", "corner"),
    [
        ((31, 50), 16, None, (16, 26), (0, 5)),  # 25.8 wide or high: 26
        ((33, 50), 16, (16, 25), (16, 25), (0, 4)),  # of 9 left over, 4 before and 5 behind
        ((90, 70), 16, (22, 17), (21, 16), (2, 0)),  # 90 x 70, 45 x 35, 22 x 17
        ((10, 12), 16, None, (16, 19), (0, 1)),  # a smaller one is enlarged
    ],
)
def test_box_then_bicubic_by_hand(
    size: tuple[int, int],
    side: int,
    halved: tuple[int, int] | None,
    resized: tuple[int, int],
    corner: tuple[int, int],
) -> None:
    """Sizes (width, height), worked out by hand, Pillow's filters between them."""
    picture = coloured(size[1], size[0])
    expected = picture
    if size == (90, 70):
        expected = expected.resize((45, 35), Image.Resampling.BOX)
    if halved is not None:
        expected = expected.resize(halved, Image.Resampling.BOX)
    values = np.asarray(expected.resize(resized, Image.Resampling.BICUBIC))
    left, top = corner
    np.testing.assert_array_equal(
        np.asarray(box_bicubic(picture, side)), values[top : top + side, left : left + side]
    )


def test_pictures_are_resized_as_for_diffusion_models_where_asked(tmp_path: Path) -> None:
    root = imagenet(tmp_path / "imagenet")
    reading = Reading(resize="box_bicubic")
    images = load_images("imagenet", root, "train", reading)
    whole = load_images("imagenet", root, "train", Reading(256, resize="box_bicubic"))
    plain = load_images("imagenet", root, "train")
    assert isinstance(plain, FolderImages)
    assert images.info == plain.info == describe_dataset("imagenet", reading)
    assert whole.info.image_shape == (3, 256, 256)
    assert whole.info == describe_dataset("imagenet", Reading(256, resize="box_bicubic"))
    for k, path in enumerate(plain.paths):
        expected = bytes_of(transforms.ToTensor()(box_bicubic(Image.open(path), 256)))
        assert torch.equal(bytes_of(whole[k].image), expected)
        assert torch.equal(bytes_of(images[k].image), expected[:, 16:-16, 16:-16])
    assert len({x.fingerprint() for x in (images, whole, plain)}) == 3

    own = write_classes(tmp_path / "pets", size=(40, 52))
    mine = load_images(str(own), reading=Reading(16, resize="box_bicubic"))
    assert isinstance(mine, FolderImages)
    grey = load_images(str(own), reading=Reading(16, channels=1, resize="box_bicubic"))
    for k, path in enumerate(mine.paths):
        picture = Image.open(path)
        assert torch.equal(mine[k].image, transforms.ToTensor()(box_bicubic(picture, 16)))
        luma = transforms.ToTensor()(box_bicubic(picture.convert("L"), 16))
        assert torch.equal(grey[k].image, luma)
    with pytest.raises(DataError, match="resize box_bicubic needs an image_size"):
        load_images(str(own), reading=reading)
    with pytest.raises(DataError, match="resize box_bicubic is for images in files, fashion_mnist"):
        load_images("fashion_mnist_sample", reading=reading)
    with pytest.raises(DataError, match="has 224 x 224, got 256"):
        load_images("imagenet", root, "train", Reading(256))
    with pytest.raises(DataError, match="resize must be bilinear or box_bicubic, got 'lanczos'"):
        Reading(resize="lanczos")  # type: ignore[arg-type]


class Seen(pl.Callback):
    """What each training step was shown: indices, weights, and the sum of the pixels."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, list[int], list[float], float]] = []
        self.batches = 0

    def on_train_batch_start(self, trainer: pl.Trainer, module: Any, batch: Any, k: int) -> None:
        indices, weights = batch.original_index.tolist(), batch.weight.tolist()
        total = batch.image.double().sum().item()
        self.steps.append((trainer.current_epoch, indices, weights, total))
        self.batches = int(trainer.num_training_batches)


def classifier(folder: Path, **changes: Any) -> GaussianTraining:
    options = {"arch": "cifar_resnet8", "crop_padding": 0, "input_layer": "none"} | changes
    return GaussianTraining(dataset=str(folder), **options)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_training_is_shown_what_an_unbroken_one_is(tmp_path: Path, workers: int) -> None:
    root = write_classes(tmp_path / "pets", each=7)
    extra = write_classes(tmp_path / "extra", each=5)

    def fit(name: str, *more: pl.Callback, **options: Any) -> list[Any]:
        seen, saving = Seen(), ModelCheckpoint(tmp_path / name, save_last=True)
        trainer = make_trainer(tmp_path, 3, callbacks=[seen, saving, *more])
        data = folder_data(
            root, random_resized_crop=True, extra=str(extra), extra_weight=0.5, workers=workers
        )
        trainer.fit(classifier(root), datamodule=data, **options)
        assert seen.batches == 6  # of 11 labelled images 4, 4 and 3, and as many others
        return seen.steps

    whole = fit("whole")
    assert [step[0] for step in whole] == [0] * 6 + [1] * 6 + [2] * 6
    for epoch in range(3):
        steps = whole[6 * epoch : 6 * epoch + 6]
        kinds = Counter(tuple(step[2]) for step in steps)
        assert kinds == {(1.0,) * 4: 2, (1.0,) * 3: 1, (0.5,) * 4: 3}
    parts = fit("parts", StopAfter(2))
    assert parts == whole[:12]
    assert fit("parts", ckpt_path=tmp_path / "parts" / "last.ckpt") == whole[12:]


def test_epochs_of_the_learning_rate_count_the_extra_batches(tmp_path: Path) -> None:
    root = write_classes(tmp_path / "pets", each=7)
    np.savez(tmp_path / "x.npz", images=np.zeros((9, 8, 8, 3), np.uint8), labels=np.zeros(9, int))
    rates: list[float] = []

    class Rates(pl.Callback):
        def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    module = classifier(root)
    module._learning_rate = type(module._learning_rate)("step", step_epochs=1)
    data = folder_data(root, extra=str(tmp_path / "x.npz"))
    make_trainer(tmp_path, 2, callbacks=[Rates()]).fit(module, datamodule=data)
    assert rates == pytest.approx([0.1] * 6 + [0.01] * 6)


def test_a_last_batch_of_one_image_and_a_batch_larger_than_the_data(tmp_path: Path) -> None:
    root = write_classes(tmp_path / "pets", each=6)  # 9 of the 12 are trained on
    for rows, sizes in ((4, [4, 4]), (5, [5, 4]), (200, [9])):
        seen = Seen()
        # resnet10t's last feature maps are of one pixel here: batch norm raises for one image.
        module = classifier(root, arch="resnet10t")
        data = folder_data(root, batch_size=rows)
        make_trainer(tmp_path, 1, callbacks=[seen]).fit(module, datamodule=data)
        assert [len(step[1]) for step in seen.steps] == sizes
    data = folder_data(root, batch_size=200, drop_last=True)
    with pytest.raises(DataError, match="9 training images a device, too few for the batch of 200"):
        make_trainer(tmp_path, 1).fit(classifier(root), datamodule=data)


def test_overfitting_some_batches_is_lightnings(tmp_path: Path) -> None:
    root = write_classes(tmp_path / "pets", each=8)
    seen = Seen()
    trainer = make_trainer(tmp_path, 2, callbacks=[seen], overfit_batches=1)
    with pytest.warns(UserWarning, match="requested to overfit"):
        trainer.fit(classifier(root), datamodule=folder_data(root, random_resized_crop=True))
    assert seen.steps[0][1:] == seen.steps[1][1:]


def test_what_a_resumed_training_must_share(tmp_path: Path) -> None:
    root = write_classes(tmp_path / "pets", each=7, size=(16, 16))
    data = folder_data(root, random_resized_crop=True, image_size=8, exif="apply")
    stored = data.state_dict()
    data.load_state_dict(stored)
    same = {"random_resized_crop": True, "image_size": 8, "exif": "apply"}
    for change, message in (
        ({"random_resized_crop": False}, "data.random_resized_crop True, not False"),
        ({"image_size": 16}, "data.image_size 8, not 16"),
        ({"exif": "ignore"}, "data.exif 'apply', not 'ignore'"),
        ({"drop_last": True}, "data.drop_last False, not True"),
        ({"extra": "x.npz"}, "data.extra None, not 'in batches of their own'"),
    ):
        with pytest.raises(DataError, match=f"{message}; to go on, leave the options as they were"):
            folder_data(root, **same | change).load_state_dict(stored)
    box = folder_data(root, image_size=8, resize="box_bicubic")
    with pytest.raises(DataError, match=r"data\.resize 'box_bicubic', not 'bilinear'"):
        folder_data(root, image_size=8).load_state_dict(box.state_dict())


def test_a_training_of_an_older_version_goes_on_with_its_own_epochs(tmp_path: Path) -> None:
    root = write_stripes(tmp_path / "data")
    saving = ModelCheckpoint(tmp_path / "out", save_last=True)
    module = GaussianTraining(arch="cifar_resnet8", sigma=0.25)
    make_trainer(tmp_path, 1, callbacks=[saving]).fit(module, datamodule=make_data(root))
    last = tmp_path / "out" / "last.ckpt"
    content = torch.load(last, weights_only=True)
    words = ("validation_images", "seed", "extra_weight", "purified")  # all that 0.2 wrote
    content["ImageDataModule"] = {name: content["ImageDataModule"][name] for name in words}
    torch.save(content, last)

    def resume(**changes: Any) -> None:
        data = make_data(root)
        for name, value in changes.items():
            setattr(data, name, value)
        make_trainer(tmp_path, 2).fit(
            GaussianTraining(arch="cifar_resnet8", sigma=0.25), datamodule=data, ckpt_path=last
        )

    with pytest.raises(
        DataError, match=r"data\.drop_last True, not False; to go on, give --data\.dr"
    ):
        resume()
    resume(drop_last=True)
    np.savez(tmp_path / "x.npz", images=np.zeros((2, 32, 32), np.uint8), labels=np.arange(2))
    with pytest.raises(DataError, match=r"before data\.extra came in batches of their own"):
        resume(drop_last=True, extra=str(tmp_path / "x.npz"))


def test_what_a_method_is_shown_must_suit_it(tmp_path: Path) -> None:
    root = write_classes(tmp_path / "pets", size=(16, 16))
    cropped = folder_data(root, random_resized_crop=True)
    check_images(cropped, classifier(root))
    with pytest.raises(UserError, match=r"give --model\.init_args\.crop_padding 0, got 4"):
        check_images(cropped, classifier(root, crop_padding=4))
    resized = folder_data(root, image_size=16, resize="box_bicubic")
    with pytest.raises(UserError, match=r"data\.resize box_bicubic is for the training of diff"):
        check_images(resized, classifier(root))
    small = {"model_channels": 32, "num_res_blocks": 1, "in_channels": 3, "out_channels": 3}
    check_images(resized, DiffusionTraining(dataset=str(root), overrides=small))


@pytest.mark.filterwarnings("ignore")  # Lightning's and its command line's remarks
def test_the_command_line_says_it_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_classes(tmp_path / "pets", each=4)
    with pytest.raises(SystemExit) as ended:
        train.main([
            "fit", "--model", "diffsmooth.lit.training.GaussianTraining",
            "--model.arch", "cifar_resnet8", "--model.input_layer", "none",
            "--data.dataset", str(root), "--data.random_resized_crop", "true",
            "--trainer.logger", "false", "--trainer.accelerator", "cpu",
        ])  # fmt: skip
    assert ended.value.code == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "random_resized_crop crops the images already" in said


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stop", [2, 8, 12])  # in the first epoch, in the second, at its end
def test_a_training_goes_on_from_the_middle_of_an_epoch(
    tmp_path: Path, workers: int, stop: int
) -> None:
    root = write_classes(tmp_path / "pets", each=7)
    extra = write_classes(tmp_path / "extra", each=5)

    def fit(name: str, batch_size: int = 4, **options: Any) -> list[Any]:
        seen = Seen()
        saving = ModelCheckpoint(
            tmp_path / name, filename="{step}", every_n_train_steps=2, save_top_k=-1
        )
        data = folder_data(
            root, random_resized_crop=True, extra=str(extra), workers=workers, batch_size=batch_size
        )
        module = classifier(root)
        trainer = make_trainer(tmp_path, 3, callbacks=[seen, saving])
        trainer.fit(module, datamodule=data, **options)
        weights.append(torch.cat([p.detach().flatten() for p in module.parameters()]))
        return seen.steps

    weights: list[Tensor] = []
    whole = fit("whole")
    saved = tmp_path / "whole" / f"step={stop}.ckpt"
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*not resumable.*")
        assert fit("rest", ckpt_path=saved) == whole[stop:]
    assert torch.equal(*weights)
    if stop % 6:
        said = r"in the middle of an epoch, with batches of 4 on 1 device: .* got 8 on 1"
        with pytest.raises(DataError, match=said):
            fit("other", batch_size=8, ckpt_path=saved)
    else:
        assert [step[0] for step in fit("other", batch_size=8, ckpt_path=saved)] == [2] * 4


def test_a_weight_of_extra_images_needs_some() -> None:
    with pytest.raises(DataError, match=r"extra_weight 0\.5 is of extra images: give extra, too"):
        ImageDataModule(extra_weight=0.5)
