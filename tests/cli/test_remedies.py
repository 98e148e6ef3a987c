"""A mistake's line names what helps: the option, by its name, and the file."""

import shlex
import shutil
from dataclasses import fields, replace
from pathlib import Path

import pytest
from torchvision import datasets

from diffsmooth.cli.lightning_cli import going_on
from diffsmooth.cli.options import read_options
from diffsmooth.lit.data import load_images
from diffsmooth.models.classifiers.dataset_info import DatasetInfo
from diffsmooth.models.classifiers.input_layers import build_input_layer
from diffsmooth.pipeline.publish import publish
from diffsmooth.pipeline.purifier_loading import load_purifier
from diffsmooth.pipeline.specification import CertifyOptions, PurifierOptions
from diffsmooth.pipeline.stored_options import WhereItLies, stored_options
from diffsmooth.runs.identity import RunIdentity
from diffsmooth.runs.names import OutputFiles
from diffsmooth.shipped import located
from diffsmooth.stats.errors import UserError


def test_a_denoiser_that_is_not_the_published_one_is_named_where_it_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = PurifierOptions(dataset="cifar10")
    with pytest.raises(UserError, match=r"name one with --diffusion, or") as missing:
        load_purifier(options, 0.5, None)  # type: ignore[arg-type]
    assert "ours" not in str(missing.value)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/cifar10_diffusion.pt").touch()
    assert options.diffusion_source is None  # it is never taken unasked
    with pytest.raises(UserError, match=r"\(checkpoints/cifar10_diffusion\.pt is a small U-Net of"):
        load_purifier(options, 0.5, None)  # type: ignore[arg-type]


def test_images_without_a_mean_name_the_option_of_each_command() -> None:
    with pytest.raises(
        UserError, match=r"--model\.init_args\.input_layer none, .* --normalize none"
    ):
        build_input_layer("standard", DatasetInfo("mine", (3, 8, 8), ("a", "b")))


def test_a_printed_config_is_the_line_that_printed_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def options_of(*words: str) -> CertifyOptions:
        return read_options(CertifyOptions, list(words), "certify", None, with_config=True)

    network = located("pkg:fashion_mnist_gaussian_0.25.pt")
    by_place = ("fashion_mnist_sample", network, "0.25", "o.txt")
    more = ("--m", "1", "--plan", "group_sequential", "--radii", "0.1", "0.2", "--no_sanity_check")
    for flag in ("--print_config", "--print_config=skip_default"):
        with pytest.raises(SystemExit) as stopped:
            options_of(*by_place, flag, *more)
        assert not stopped.value.code
        file = tmp_path / "c.yaml"
        file.write_text(capsys.readouterr().out)
        assert options_of("--config", str(file)) == options_of(*by_place, *more)
    with pytest.raises(SystemExit):
        options_of("--help")
    shown = capsys.readouterr().out
    assert "--outfile" not in shown
    assert "above" not in shown.partition("--config")[0]


def test_a_command_to_paste_is_quoted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "my out's.txt"
    study = Path(__file__).parents[2] / "docs/studies/fashion_mnist/cohen"
    for end in (".txt", ".jsonl"):
        shutil.copy(f"{study}{end}", table.with_suffix(end))
    publish(OutputFiles(str(table)), [], tmp_path / "my logs", lambda _: None, [])
    line = capsys.readouterr().out.strip().rpartition("a page of all: ")[2]
    page = str(table.with_suffix(".html"))
    assert shlex.split(line) == ["diffsmooth", "report", str(table), "--html", page]


def test_a_manifest_whose_networks_lie_elsewhere_names_the_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    identity = RunIdentity(**{one.name: None for one in fields(RunIdentity)})
    identity = replace(identity, dataset="cifar10", purifier="oneshot")
    manifest = {"data_root": "data", "classifier": "checkpoints/c.pt", "diffusion": "d.pt"}
    given = WhereItLies()
    with pytest.raises(UserError, match=r"checkpoints/c\.pt: no such .*: give --classifier where"):
        stored_options(identity, manifest, given)
    given = WhereItLies(classifier="elsewhere/c.pt")
    with pytest.raises(UserError, match=r"d\.pt: no such .*: give --diffusion where"):
        stored_options(identity, manifest, given)
    (tmp_path / "d.pt").touch()
    assert stored_options(identity, manifest, given)["classifier"] == "elsewhere/c.pt"


def test_words_in_the_wrong_place(capsys: pytest.CaptureFixture[str]) -> None:
    for words, line in (
        (["a", "c.pt", "o.txt", "0.5"], "sigma must be a number, got 'o.txt'; the order is dataset "
         "classifier sigma outfile"),
        (["a", "c.pt", "0.5", "o.txt", "--N", "x"], "n must be a whole number, got 'x'"),
        (["a", "c.pt", "0.5", "o.txt", "--radii", "0", "x"], "radii element 2 must be a number, "
         "got 'x'"),
        (["a", "c.pt", "0.5", "o.txt", "--logger", "mlflow"], "logger must be of tensorboard, csv, "
         "wandb, none, or PACKAGE.MODULE:FACTORY of a logger of your own, got 'mlflow'"),
    ):  # fmt: skip
        with pytest.raises(SystemExit) as stopped:
            read_options(CertifyOptions, words, "certify", None, with_config=True)
        assert stopped.value.code == 2
        said = capsys.readouterr().err.strip().removesuffix(" (--help explains the options)")
        assert said == f"certify: error: {line}"


@pytest.mark.parametrize("place", ["/proc/sys/o.txt", "/proc/sys/deeper/o.txt", "/dev/null/o.txt"])
def test_a_table_that_cannot_be_written_is_refused_before_anything_is_loaded(place: str) -> None:
    network = located("pkg:fashion_mnist_gaussian_0.25.pt")
    options = CertifyOptions(
        dataset="fashion_mnist_sample", classifier=network, sigma=0.5, outfile=place
    )
    with pytest.raises(UserError, match=f"{place}: cannot be written .* is no folder that can be"):
        options.check_inputs()


@pytest.mark.parametrize("there", [[], ["data"], ["data", "other"]])
def test_data_that_cannot_be_had_names_the_option_and_leaves_nothing(
    there: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Absent:
        def __init__(self, root: str, train: bool, download: bool) -> None:
            raise RuntimeError("no network" if download else "not found")

    monkeypatch.setattr(datasets, "CIFAR10", Absent)
    root = tmp_path / "data"
    if there:
        root.mkdir()
    for name in there[1:]:
        (root / name).touch()
    with pytest.raises(UserError, match=r"CIFAR-10 is not under .*--data_root.*\(no network\)"):
        load_images("cifar10", str(root))
    assert [path.name for path in tmp_path.rglob("*")] == there


@pytest.mark.parametrize(
    "begun", [[], ["--ckpt_path", "last"], ["--ckpt_path=epoch=3.ckpt"], ["--ckpt_path", "3.ckpt"]]
)
def test_a_training_goes_on_from_its_last_checkpoint_wherever_it_began(begun: list[str]) -> None:
    words = ["fit", "-c", "a.yaml", *begun, "--name", "b"]
    assert going_on(words) == ["fit", "-c", "a.yaml", "--name", "b", "--ckpt_path", "last"]
