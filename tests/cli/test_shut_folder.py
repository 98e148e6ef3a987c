"""A training whose folder cannot be written says so; what it writes there is whole."""

from pathlib import Path

import pytest
import yaml
from stripes import write_stripes

from diffsmooth.cli import lightning_cli, train
from diffsmooth.stats.errors import UserError


def words(data: Path) -> list[str]:
    return [
        "fit", "--model", "diffsmooth.lit.training.GaussianTraining", "--model.sigma", "0.25",
        "--model.arch", "cifar_resnet8", "--data.root", str(data),
        "--data.validation_images", "32", "--trainer.accelerator", "cpu", "--name", "own",
        "--trainer.max_epochs", "1", "--trainer.limit_train_batches", "1",
        "--trainer.enable_progress_bar", "false",
    ]  # fmt: skip


@pytest.mark.filterwarnings("ignore")
def test_the_config_is_written_whole_or_the_line_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    written: list[Path] = []
    real = lightning_cli.write_whole

    def keep(path: Path, content: bytes) -> None:
        written.append(path)
        real(path, content)

    monkeypatch.setattr(lightning_cli, "write_whole", keep)
    data = write_stripes(tmp_path / "data")
    train.main(words(data))
    config = Path("logs/own/config.yaml")
    assert [path.resolve() for path in written] == [config.resolve()]
    assert yaml.safe_load(config.read_text())["model"]["init_args"]["sigma"] == 0.25

    def shut(path: Path, content: bytes) -> None:
        raise UserError(f"{path}: cannot be written (Read-only file system)")

    monkeypatch.setattr(lightning_cli, "write_whole", shut)
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        train.main([*words(data), "--name", "other"])
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert "other/config.yaml: cannot be written (Read-only file system)" in said
    assert "Traceback" not in said
