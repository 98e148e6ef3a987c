"""Folders of one's own images through every command that takes them."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from pictures import RGB, coloured, exif, png, write_classes

from diffsmooth.cli import certify, doctor, predict, report, train, tune, visualize
from diffsmooth.models import build_classifier, build_unet
from diffsmooth.models.checkpoints.weights import (
    Checkpoint,
    CheckpointMetadata,
    write_checkpoint,
)
from diffsmooth.pipeline.inputs import reading_for
from diffsmooth.pipeline.specification import ImageOptions

Run = Callable[..., list[list[str]]]
NUMBERS = tuple(str(k) for k in range(12))


def write_classifier(
    path: Path, classes: tuple[str, ...], shape: tuple[int, int, int] = (3, 16, 16)
) -> Path:
    torch.manual_seed(3)
    model = build_classifier("cifar_resnet8", len(classes), "none", _info(classes, shape))
    metadata = CheckpointMetadata(
        "classifier", "pets", arch="cifar_resnet8", input_layer="none", image_shape=list(shape),
        class_names=list(classes), sigma=0.25,
    )  # fmt: skip
    write_checkpoint(path, metadata, model.state_dict())
    return path


def _info(classes: tuple[str, ...], shape: tuple[int, int, int]) -> object:
    from diffsmooth.models.classifiers.dataset_info import DatasetInfo

    return DatasetInfo("pets", shape, classes)


@pytest.fixture
def classifier(tmp_path: Path) -> Path:
    return write_classifier(tmp_path / "classifier.pt", ("cat", "dog"))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Predicts the images of a folder; the table's rows without times."""

    def call(folder: Path, classifier: Path, *options: str, out: str = "o.txt") -> list[list[str]]:
        predict.main(words(tmp_path, folder, classifier, out, *options))
        lines = (tmp_path / out).read_text().splitlines()[1:]
        return [line.split("\t")[:4] for line in lines]

    return call


def words(tmp_path: Path, folder: Path, classifier: Path, out: str, *options: str) -> list[str]:
    return [
        str(folder), str(classifier), "0.5", str(tmp_path / out), "--purifier", "none", "--m", "1",
        "--local_noise_sd", "0", "--N", "20", "--batch", "12", "--skip", "1", "--accelerator",
        "cpu", "--threads", "1", "--no_sanity_check", "--logdir", str(tmp_path / "logs"), *options,
    ]  # fmt: skip


def refused(capsys: pytest.CaptureFixture[str], call: Callable[[], object]) -> str:
    """The one line that a command ends with, by exit code 2."""
    with pytest.raises(SystemExit) as stopped:
        call()
    assert stopped.value.code == 2
    last: str = capsys.readouterr().err.splitlines()[-1]
    assert "error: " in last
    return last


def identity(tmp_path: Path, out: str = "o") -> dict[str, object]:
    return json.loads((tmp_path / f"{out}.manifest.json").read_text())["identity"]


def test_one_small_picture_does_not_shrink_the_others(
    tmp_path: Path, classifier: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_classes(tmp_path / "pets", each=7, size=(30, 30))
    coloured(20, 24).save(root / "cat" / "00.png")
    last = words(tmp_path, root, classifier, "o.txt", "--N0", "4")
    said = refused(capsys, lambda: certify.main(last))
    assert "15 images have 2 sizes: 30 x 30 (14), 20 x 24 (1)" in said
    assert not list(tmp_path.glob("o.*"))
    assert "image_size must be at least 1" in refused(
        capsys, lambda: run(root, classifier, "--image_size", "0")
    )
    certify.main([*last, "--image-size", "16"])
    assert len((tmp_path / "o.txt").read_text().splitlines()) == 1 + 15
    out = capsys.readouterr().out
    assert out.startswith(
        "data: pets, test: 15 of 3 x 16 x 16, 2 classes; all taken\n"
        "classes, by the classifier's names: "
    )
    assert identity(tmp_path)["image_shape"] == [3, 16, 16]
    assert identity(tmp_path)["class_names"] == ["cat", "dog"]


def test_images_of_one_size_are_certified_at_it_and_resized_for_the_classifier(
    tmp_path: Path, classifier: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_classes(tmp_path / "pets", size=(24, 20))
    assert len(run(root, classifier)) == 4
    assert identity(tmp_path)["image_shape"] == [3, 24, 20]
    out = capsys.readouterr().out
    assert "data: pets, test: 4 of 3 x 24 x 20, 2 classes" in out
    assert "classifier: takes 16 x 16; what it is shown, noise and all, is resized" in out


def test_sixteen_bits_give_the_table_of_eight(tmp_path: Path, classifier: Path, run: Run) -> None:
    for depth in (8, 16):
        for k, name in enumerate(("cat", "dog")):
            folder = tmp_path / str(depth) / "pets" / name
            folder.mkdir(parents=True)
            pixels = np.asarray(coloured(16, 16, seed=k))
            deep = pixels.astype(np.uint16) * 257
            (folder / "x.png").write_bytes(png(deep if depth == 16 else pixels, RGB))
    tables = [run(tmp_path / str(d) / "pets", classifier, out=f"{d}.txt") for d in (8, 16)]
    assert tables[0] == tables[1]
    assert {row[2] for row in tables[0]} != {"-1"}


def test_a_classifier_of_one_channel_gets_grey_images(
    tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    classifier = write_classifier(tmp_path / "grey.pt", ("cat", "dog"), (1, 16, 16))
    for kind in ("RGB", "L"):
        for k, name in enumerate(("cat", "dog")):
            folder = tmp_path / kind / "pets" / name
            folder.mkdir(parents=True)
            coloured(16, 16, seed=k).convert(kind).save(folder / "x.png")
    tables = [run(tmp_path / k / "pets", classifier, out=f"{k}.txt") for k in ("RGB", "L")]
    assert tables[0] == tables[1]
    assert "data: pets, test: 2 of 1 x 16 x 16" in capsys.readouterr().out


def test_a_file_of_weights_tells_its_channels_wherever_its_first_convolution_is() -> None:
    weights = {"1.stem.weight": torch.zeros(8, 1, 3, 3), "1.next.weight": torch.zeros(8, 8, 3, 3)}
    checkpoint = Checkpoint(Path("c"), "", CheckpointMetadata("classifier"), weights)
    assert reading_for(checkpoint, ImageOptions()).channels == 1
    weights["1.a_depthwise.weight"] = torch.zeros(8, 1, 3, 3)  # by which a safetensors file begins
    weights["1.stem.weight"] = torch.zeros(8, 3, 3, 3)
    assert reading_for(checkpoint, ImageOptions()).channels == 3


def test_class_folders_keep_their_classes(tmp_path: Path, run: Run) -> None:
    twelve = write_classifier(tmp_path / "twelve.pt", tuple(f"class {k}" for k in NUMBERS))
    write_classes(tmp_path / "numbers", NUMBERS, each=1, size=(16, 16))
    rows = run(tmp_path / "numbers", twelve)
    assert [row[1] for row in rows] == list(NUMBERS)
    assert identity(tmp_path)["class_names"] == list(NUMBERS)
    text = write_classifier(tmp_path / "text.pt", tuple(sorted(NUMBERS)))
    rows = run(tmp_path / "numbers", text, out="text.txt")
    assert [row[1] for row in rows] == [str(sorted(NUMBERS).index(k)) for k in NUMBERS]


def test_an_npz_file_whose_classes_are_in_another_order_is_refused(
    tmp_path: Path, classifier: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    images = np.zeros((2, 16, 16, 3), np.uint8)
    names = np.array(["dog", "cat"])
    np.savez(tmp_path / "x.npz", images=images, labels=np.array([0, 1]), class_names=names)
    said = refused(capsys, lambda: run(tmp_path / "x.npz", classifier))
    assert "label 0 is dog" in said
    assert "it is label 1: the classes are in another order" in said


def test_what_is_no_image_neither_hangs_nor_counts(
    tmp_path: Path, classifier: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_classes(tmp_path / "pets", size=(16, 16))
    os.mkfifo(root / "cat" / "pipe.png")
    os.symlink("..", root / "dog" / "up")
    assert len(run(root, classifier)) == 4
    out = capsys.readouterr().out
    assert "skipped 1 (no regular files): " in out
    assert "skipped 1 (links to a folder that holds them): " in out
    os.symlink("gone.png", root / "dog" / "x.png")
    assert "dog/x.png: a link to nothing" in refused(
        capsys, lambda: run(root, classifier, out="p.txt")
    )


def test_an_orientation_is_asked_for(
    tmp_path: Path, classifier: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_classes(tmp_path / "pets", size=(16, 16))
    coloured(16, 16).save(root / "cat" / "x.jpg", exif=exif(3))
    said = refused(capsys, lambda: run(root, classifier))
    assert "1 of its 5 images carry an EXIF orientation, cat/x.jpg the first" in said
    run(root, classifier, "--exif", "apply")
    assert "data was" in refused(capsys, lambda: run(root, classifier, "--exif", "ignore"))
    assert "exif" in refused(capsys, lambda: run(root, classifier, "--exif", "turn", out="p.txt"))
    assert "exif is for folders" in refused(
        capsys, lambda: run(Path("fashion_mnist_sample"), classifier, "--exif", "apply", out="p")
    )


def test_a_picture_that_is_broken_or_transparent_is_recorded(
    tmp_path: Path, classifier: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_classes(tmp_path / "pets", size=(16, 16))
    clear = coloured(16, 16).convert("RGBA")
    clear.putpixel((0, 0), (0, 0, 0, 0))
    clear.save(root / "cat" / "0.png")
    (root / "dog" / "1.png").write_bytes((root / "dog" / "1.png").read_bytes()[:100])
    with pytest.raises(SystemExit) as stopped:
        run(root, classifier)
    assert stopped.value.code == 1
    lines = (tmp_path / "o.jsonl").read_text().splitlines()
    errors = {json.loads(line)["index"]: json.loads(line).get("error", "") for line in lines}
    assert "some of its pixels are transparent" in errors[0]
    assert "dog/1.png: not a readable image" in errors[3]
    assert errors[1] == errors[2] == ""
    assert "2 of 4 images failed" in capsys.readouterr().err


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """A folder whose images have two sizes in each split."""
    for k, split in enumerate(("train", "test")):
        root = write_classes(tmp_path / "pets" / split, each=4, size=(18, 18))
        coloured(20, 24).save(root / "cat" / "x.png")
        (root / "dog" / "0.png").unlink()
        coloured(18, 18, seed=k).save(root / "dog" / "0.bmp")  # files of one size
    return tmp_path / "pets"


def commands(tmp_path: Path, mixed: Path, classifier: Path) -> dict[str, Callable[..., object]]:
    """Each takes further options."""
    voting = ["--purifier", "none", "--accelerator", "cpu", "--no_sanity_check"]
    torch.manual_seed(4)
    unet = build_unet("small-gray32", channel_mult=(1, 1), attention_resolutions=())
    metadata = CheckpointMetadata(
        "unet", "pets", preset="small-gray32",
        overrides={"channel_mult": (1, 1), "attention_resolutions": ()}, max_sigma=1.0,
    )  # fmt: skip
    write_checkpoint(tmp_path / "unet.pt", metadata, unet.state_dict())
    folder, network = str(mixed), str(classifier)
    return {
        "predict": lambda *more: predict.main(
            [folder, network, "0.5", str(tmp_path / "p.txt"), *voting, "--N", "10", "--m", "1",
             "--local_noise_sd", "0", "--logdir", str(tmp_path / "logs"), "--threads", "1", *more]
        ),
        "tune": lambda *more: tune.main(
            [folder, network, "0.5", str(tmp_path / "t.yaml"), *voting, "--N", "12", "--n0", "4",
             "--radius", "0.05", "--images", "2", "--validation_images", "3", "--m", "1",
             "--sigma_local", "0", *more]
        ),
        "doctor": lambda *more: doctor.main([network, "--dataset", folder, "--N", "10", *more]),
        "visualize": lambda *more: visualize.main(
            [folder, str(tmp_path / "v.png"), "--diffusion", str(tmp_path / "unet.pt"),
             "--sigma", "0.25", *more]
        ),
        "train": lambda *more: train.main(
            ["fit", "--model", "GaussianTraining", "--model.arch", "cifar_resnet8",
             "--model.input_layer", "none", "--model.crop_padding", "0", "--data.dataset", folder,
             "--data.validation_images", "2", "--data.batch_size", "4", "--trainer.max_epochs", "1",
             "--trainer.accelerator", "cpu", "--trainer.logger", "false",
             "--trainer.default_root_dir", str(tmp_path),
             *(word.replace("--", "--data.") for word in more)]
        ),
    }  # fmt: skip


@pytest.mark.filterwarnings("ignore")  # Lightning's and its command line's remarks
@pytest.mark.parametrize("command", ["predict", "tune", "doctor", "visualize", "train"])
def test_each_command_wants_one_size_or_is_told(
    tmp_path: Path, mixed: Path, classifier: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    call = commands(tmp_path, mixed, classifier)[command]
    assert "9 images have 2 sizes: 18 x 18 (8), 20 x 24 (1)" in refused(capsys, call)
    call("--image_size", "16")
    channels = 1 if command == "visualize" else 3
    assert f"9 of {channels} x 16 x 16" in capsys.readouterr().out
    if command == "tune":
        assert "image_size: 16\n" in (tmp_path / "t.yaml").read_text()


def test_names_of_classes_and_files_go_from_the_folder_to_the_page(
    tmp_path: Path, classifier: Path
) -> None:
    root = write_classes(tmp_path / "pets", each=2, size=(16, 16))
    certify.main(words(tmp_path, root, classifier, "o.txt", "--N0", "4"))
    page, images = tmp_path / "p.html", tmp_path / "i.csv"
    report.main([str(tmp_path / "o.txt"), "--html", str(page), "--images", str(images)])
    rows = [line.split(",")[1:5] for line in images.read_text().splitlines()]
    assert rows == [
        ["idx", "file", "label", "label_name"],
        ["0", "cat/0.png", "0", "cat"],
        ["1", "cat/1.png", "0", "cat"],
        ["2", "dog/0.png", "1", "dog"],
        ["3", "dog/1.png", "1", "dog"],
    ]
    html = page.read_text()
    assert "cat/<wbr>1.png" in html
    assert '<th scope="row">dog</th>' in html
    assert 'alt="image 3 (dog/1.png), noisy"' in html
