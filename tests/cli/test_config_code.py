"""A config names code of known packages only; nothing else that it names is imported."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from diffsmooth.cli import certify, predict, train
from diffsmooth.cli.named_code import options_that_allow

EVIL = """
from pathlib import Path

import torch
from lightning.pytorch import Callback
from lightning.pytorch.loggers import CSVLogger
from torch import nn

from diffsmooth.lit.training import GaussianTraining

Path({mark!r}).touch()


class Model(GaussianTraining): ...


class Watcher(Callback): ...


class Logger(CSVLogger): ...


class Optimizer(torch.optim.SGD): ...


def network(classes=10):
    return nn.Sequential(nn.Flatten(), nn.Linear(1024, classes))


def hook(*_):
    pass
"""
MODEL = "model: {class_path: diffsmooth.lit.training.GaussianTraining, init_args: {sigma: 0.25}}\n"
LAMBDA = "lightning.pytorch.callbacks.LambdaCallback"

Refused = Callable[..., str]


@pytest.fixture
def mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a module `evilmod` leaves when it is imported, in an empty working directory."""
    place, there = tmp_path / "place", tmp_path / "mark"
    place.mkdir()
    (tmp_path / "evilmod.py").write_text(EVIL.format(mark=str(there)))
    (tmp_path / "innocent.py").write_text("from evilmod import Watcher\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(place)
    for name in ("evilmod", "innocent"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return there


@pytest.fixture
def refused(mark: Path, capsys: pytest.CaptureFixture[str]) -> Refused:
    """The one line with which a command refuses, without an import."""

    def call(main: Callable[[list[str]], None], *words: str) -> str:
        with pytest.raises(SystemExit) as stopped:
            main([*words])
        (line,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
        assert stopped.value.code == 2, line
        assert not mark.exists()
        return line

    return call


def files(**texts: str) -> None:
    for name, text in texts.items():
        Path(f"{name}.yaml").write_text(text)


FORMS = [
    "model: {class_path: evilmod.Model, init_args: {sigma: 0.25}}",
    "model: evilmod.Model",
    "model.class_path: evilmod.Model",
    MODEL + "trainer: {callbacks: evilmod.Watcher}",
    MODEL + "trainer: {callbacks: [evilmod.Watcher]}",
    MODEL + "trainer: {callbacks: [{class_path: evilmod.Watcher}]}",
    MODEL + "trainer.callbacks: [{class_path: evilmod.Watcher}]",
    MODEL + "trainer: {logger: evilmod.Logger}",
    MODEL + "trainer: {logger: {class_path: evilmod.Logger, init_args: {save_dir: x}}}",
    MODEL
    + f"trainer: {{callbacks: [{{class_path: {LAMBDA}, init_args: {{setup: evilmod.hook}}}}]}}",
    MODEL + "trainer: {callbacks: '[{class_path: evilmod.Watcher}]'}",
    MODEL + "trainer: {callbacks: {<<: {class_path: evilmod.Watcher}}}",
    MODEL + "trainer: {callbacks: &a {class_path: evilmod.Watcher}}",
    MODEL + "trainer: {strategy: {class_path: evilmod.Watcher}}",
    MODEL + "trainer: {plugins: [evilmod.Watcher]}",
    MODEL + "trainer: {callbacks: innocent.Watcher}",
    MODEL.replace("sigma: 0.25", "sigma: 0.25, optimizer: evilmod.Optimizer"),
    MODEL.replace("sigma: 0.25", "sigma: 0.25, optimizer: {class_path: evilmod.Optimizer}"),
    MODEL.replace("sigma: 0.25", "sigma: 0.25, arch: 'evilmod:network'"),
    MODEL + "data: {dataset: 'evilmod:network'}",
    MODEL + "data: {purified: {diffusion: 'evilmod:network', sigma: 0.5}}",
]
QUICK = (0, 3, 7, 9, 18)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "text",
    [
        text if at in QUICK else pytest.param(text, marks=pytest.mark.slow)
        for at, text in enumerate(FORMS)
    ],
)
def test_a_training_config_names_no_code_of_others(text: str, refused: Refused) -> None:
    files(c=text)
    line = refused(train.main, "fit", "-c", "c.yaml")
    assert "--allow_imports" in line, line
    assert "evilmod" in line or "innocent" in line


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("--model", "class_path: evilmod.Model"),
        ("--trainer.callbacks", "class_path: evilmod.Watcher"),
        ("--trainer.callbacks", "[evilmod.Watcher]"),
        ("--trainer", "callbacks: evilmod.Watcher"),
        ("--data", "dataset: evilmod:network"),
    ],
)
def test_nor_does_a_file_that_is_named_for_a_part(option: str, text: str, refused: Refused) -> None:
    files(c=MODEL, part=text)
    assert "evilmod" in refused(train.main, "fit", "-c", "c.yaml", option, "part.yaml")


@pytest.mark.filterwarnings("ignore")
def test_nor_does_a_config_that_another_names(refused: Refused) -> None:
    files(evil="callbacks: evilmod.Watcher", model="class_path: evilmod.Model")
    files(a=MODEL + "trainer: evil.yaml", b="model: model.yaml", c=MODEL + "config: d.yaml")
    files(d="trainer: {callbacks: evilmod.Watcher}", known=MODEL)
    for name in "abc":
        refused(train.main, "fit", "-c", "known.yaml", "-c", f"{name}.yaml")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "setup", ["os.system", "torch.os.system", "subprocess.call", "builtins.exec", "torch.evilmod.x"]
)
def test_no_function_of_others_is_reached_through_a_known_package(
    setup: str, refused: Refused
) -> None:
    files(
        c=MODEL
        + f"trainer: {{callbacks: [{{class_path: {LAMBDA}, init_args: {{setup: {setup}}}}}]}}"
    )
    refused(train.main, "fit", "-c", "c.yaml")


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What --print_config says of a command line that is taken."""
    with pytest.raises(SystemExit) as stopped:
        train.main([*words, "--print_config"])
    said = capsys.readouterr()
    assert stopped.value.code in (0, None), said.err
    return said.out


@pytest.mark.filterwarnings("ignore")
def test_what_is_allowed_or_typed_is_taken(
    mark: Path, refused: Refused, capsys: pytest.CaptureFixture[str]
) -> None:
    files(known=MODEL, evil=MODEL + "trainer: {callbacks: [evilmod.Watcher]}")
    files(
        path=MODEL.replace("sigma: 0.25", "sigma: 0.25, optimizer: {class_path: evilmod.Optimizer}")
    )
    refused(train.main, "fit", "-c", "evil.yaml", "--allow_imports", "evilmo,mod")
    assert "evilmod." in shown(capsys, "fit", "-c", "evil.yaml", "--allow_imports", "evilmod")
    assert "evilmod." in shown(capsys, "fit", "--allow-imports=x,evilmod", "-c", "path.yaml")
    mark.unlink()
    del sys.modules["evilmod"]
    refused(train.main, "fit", "-c", "evil.yaml")  # not by what another run allowed


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "typed",
    [
        ["--trainer.callbacks+", "evilmod.Watcher"],
        ["--trainer.callbacks+=innocent.Watcher", "--allow_imports", "evilmod"],
        ["--trainer.callbacks=[{class_path: evilmod.Watcher}]"],
        ["--model", "evilmod.Model"],
        ["--model.init_args.optimizer", "evilmod.Optimizer"],
    ],
)
def test_what_is_typed_is_taken(
    typed: list[str], mark: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files(known=MODEL)
    said = shown(capsys, "fit", "-c", "known.yaml", *typed)
    assert "class_path: evilmod." in said or "class_path: innocent." in said


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["", "a b", "a,,b", "../x", "jsonargparse", "1a", "*"])
def test_a_name_that_cannot_be_allowed(name: str, refused: Refused) -> None:
    files(c=MODEL)
    line = refused(train.main, "fit", "-c", "c.yaml", f"--allow_imports={name}")
    assert "--allow_imports" in line


@pytest.mark.filterwarnings("ignore")
def test_a_file_allows_nothing(refused: Refused) -> None:
    files(c=MODEL + "allow_imports: evilmod\ntrainer: {callbacks: evilmod.Watcher}")
    assert "allow_imports is for the command line" in refused(train.main, "fit", "-c", "c.yaml")
    files(d="allow_imports: evilmod\nclassifier: 'evilmod:network'")
    assert "allow_imports is for the command line" in refused(certify.main, "--config", "d.yaml")
    files(f=MODEL + "weights_only: false")
    assert "weights_only is for the command line" in refused(train.main, "fit", "-c", "f.yaml")
    files(e="unsafe_load: true\nclassifier: x.pt")
    assert "unsafe_load is for the command line" in refused(certify.main, "--config", "e.yaml")


@pytest.mark.parametrize("main", [certify.main, predict.main])
@pytest.mark.parametrize(
    "option", ["classifier", "diffusion", "purifier", "arch", "dataset", "plan"]
)
def test_a_run_s_config_names_no_factory_of_others(
    option: str, main: Callable[[list[str]], None], refused: Refused
) -> None:
    if (option, main) == ("plan", predict.main):
        pytest.skip("predict has no plan")
    given = {"dataset": "fashion_mnist_sample", "sigma": 0.5, "outfile": "o.txt"}
    given |= {"classifier": "pkg:fashion_mnist_gaussian_0.25.pt", option: "evilmod:network"}
    files(c=yaml.safe_dump(given))
    line = refused(main, "--config", "c.yaml")
    assert "c.yaml: names 'evilmod:network'" in line
    assert "--allow_imports evilmod takes it" in line
    assert list(Path.cwd().glob("o*")) == []


RUNS_PICKLES = "torch.distributed.checkpoint.format_utils:torch_save_to_dcp"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "factory",
    [RUNS_PICKLES, "diffsmooth.models.checkpoints.reading:read_file", "timm:create_model"],
)
def test_a_config_names_no_factory_of_known_packages_either(
    factory: str, refused: Refused, tmp_path: Path
) -> None:
    """Called with what the config says, (data_root, split), some run what the file holds."""

    class Evil:
        def __reduce__(self) -> object:
            return Path.touch, (tmp_path / "mark",)

    torch.save(Evil(), "weights.pth")
    given = {"dataset": factory, "data_root": "weights.pth", "sigma": 0.5, "outfile": "o.txt"}
    files(c=yaml.safe_dump({**given, "classifier": "pkg:fashion_mnist_gaussian_0.25.pt"}))
    line = refused(certify.main, "--config", "c.yaml")
    assert f"a config may name no factory: --allow_imports {factory.partition('.')[0]}" in line or (
        "timm" in line
    )
    files(t=MODEL + f"data: {{dataset: '{factory}', root: weights.pth}}")
    typed = ["--model", "diffsmooth.lit.training.GaussianTraining"]  # which allows no more
    assert "may name no factory" in refused(train.main, "fit", *typed, "-c", "t.yaml")


@pytest.mark.parametrize(
    "words", [["--allow-imports", "evilmod"], ["--classifier", "evilmod:network"]]
)
def test_a_run_takes_what_is_allowed_or_typed(words: list[str], mark: Path) -> None:
    given = {"dataset": "fashion_mnist_sample", "sigma": 0.5, "outfile": "o.txt", "n": 20, "n0": 5}
    given |= {"purifier": "none", "local_noise_sd": 0, "m": 1, "max": 1, "threads": 1, "batch": 8}
    given |= {"sanity_check": False, "accelerator": "cpu"}
    given |= {} if "evilmod:network" in words else {"classifier": "evilmod:network"}
    files(c=yaml.safe_dump(given))
    certify.main(["--config", "c.yaml", *words, "--allow_imports", "other,evilmod.sub"])
    assert Path("o.txt").exists()


def test_what_tune_tells_to_allow() -> None:
    names = ["b.c:d", "a:x", "x.pt", None, "timm.models:y", "oneshot", "b:z"]
    assert options_that_allow(names) == ["--allow_imports", "a,b,timm"]
    assert options_that_allow(["x.pt", None]) == []
