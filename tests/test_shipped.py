"""pkg:NAME, wherever a command takes a checkpoint or a config."""

from pathlib import Path

import pytest

from diffsmooth.cli.errors import located_values
from diffsmooth.cli.options import read_options
from diffsmooth.pipeline.command_specification import ExamineOptions
from diffsmooth.pipeline.specification import CertifyOptions, find_diffusion
from diffsmooth.shipped import located
from diffsmooth.stats.errors import UserError

REPOSITORY = Path(__file__).parents[1]
CLASSIFIER = str(REPOSITORY / "checkpoints/fashion_mnist_gaussian_0.25.pt")
DIFFUSION = str(REPOSITORY / "checkpoints/fashion_mnist_diffusion.pt")


def options_of(*words: str) -> CertifyOptions:
    return read_options(CertifyOptions, list(words), "certify", None, with_config=True)


def test_in_a_clone_a_shipped_file_is_the_clones() -> None:
    assert located("pkg:fashion_mnist_gaussian_0.25.pt") == CLASSIFIER
    assert located("pkg:demo") == located("pkg:demo.yaml")
    assert located("pkg:demo") == str(REPOSITORY / "configs/certify/demo.yaml")
    for name in ("checkpoints/x.pt", "demo", "", "mine:factory", "./pkg:demo"):
        assert located(name) == name


def test_every_file_that_is_listed_is_there() -> None:
    for place in (REPOSITORY / "diffsmooth/shipped/files.txt").read_text().split():
        assert Path(located(f"pkg:{Path(place).name}")).is_file()


@pytest.mark.parametrize("name", ["pkg:", "pkg:x.pt", "pkg:../setup.cfg", "pkg:files.txt"])
def test_an_unknown_name_is_told_those_that_exist(name: str) -> None:
    with pytest.raises(UserError, match=r"pkg:fashion_mnist_diffusion\.pt, .*pkg:demo$") as raised:
        located(name)
    assert "\n" not in str(raised.value)


def test_the_demo_needs_no_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = options_of("--config", "pkg:demo", "--sigma", "0.25")
    assert (options.classifier, options.diffusion) == (CLASSIFIER, DIFFUSION)
    assert (options.sigma, options.outfile) == (0.25, "logs/demo.txt")
    assert options.check_inputs() == options_of("--config=pkg:demo", "--sigma", "0.25")


def test_what_lies_in_the_working_directory_goes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_diffusion("fashion_mnist", None) == DIFFUSION
    own = tmp_path / "checkpoints/fashion_mnist_diffusion.pt"
    own.parent.mkdir()
    own.touch()
    assert find_diffusion("fashion_mnist", None) == str(own.relative_to(tmp_path))


def test_one_of_several_files() -> None:
    words = {"checkpoints": ["a.pt", "pkg:fashion_mnist_diffusion.pt"], "self_test": False}
    options = ExamineOptions(**words)  # type: ignore[arg-type]
    assert ExamineOptions.from_namespace(options).checkpoints == ["a.pt", DIFFUSION]


def test_only_the_values_of_the_options_named_are_located() -> None:
    words = ["fit", "-c", "pkg:demo", "--ckpt_path=pkg:demo", "--name", "pkg:x", "pkg:y"]
    demo = located("pkg:demo")
    wanted = ["fit", "-c", demo, f"--ckpt_path={demo}", "--name", "pkg:x", "pkg:y"]
    assert located_values(words, "-c", "--ckpt_path") == wanted
