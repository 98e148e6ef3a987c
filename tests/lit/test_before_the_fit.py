"""What the command line of trainings sees to before anything is written."""

from pathlib import Path

import pytest

from diffsmooth.cli.lightning_cli import TrainCLI
from diffsmooth.stats.errors import UserError


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_in_a_batch_script_of_one_task_all_devices_train(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning would take it for a process of srun's, and train on one of the devices."""
    monkeypatch.chdir(tmp_path)
    for name, value in {"NTASKS": "1", "JOB_ID": "1", "JOB_NAME": "train", "PROCID": "0",
                        "LOCALID": "0", "NODEID": "0"}.items():  # fmt: skip
        monkeypatch.setenv(f"SLURM_{name}", value)
    sizes = []

    def run(cli: TrainCLI, subcommand: str) -> None:
        environment = cli.trainer.strategy.cluster_environment  # type: ignore[attr-defined]
        sizes.append((cli.trainer.world_size, environment.creates_processes_externally))

    monkeypatch.setattr(TrainCLI, "_run_subcommand", run)
    monkeypatch.setattr("sys.argv", ["train.py"])
    TrainCLI(
        ["fit", "--model=diffsmooth.lit.training.GaussianTraining", "--model.arch=cifar_resnet8",
         "--data.dataset=fashion_mnist", f"--data.root={root}", "--trainer.devices=2",
         "--trainer.accelerator=cpu", "--trainer.logger=false"],
        "train.py",
    )  # fmt: skip
    assert sizes == [(2, False)]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("draws", [1, 2])
def test_several_purified_draws_are_refused_with_an_attack(
    draws: int, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "diffusion.pt").touch()
    arguments = [
        "fit",
        "--model=diffsmooth.lit.training.ConsistencyTraining",
        "--model.arch=cifar_resnet8",
        "--model.epsilon=0.25",
        "--data.dataset=fashion_mnist",
        f"--data.root={root}",
        f"--data.purified={{diffusion: diffusion.pt, sigma: 0.25, draws: {draws}}}",
    ]
    message = "attacks one image" if draws > 1 else "before the fit"

    def fit(cli: TrainCLI) -> None:
        raise UserError("before the fit")

    monkeypatch.setattr(TrainCLI, "before_fit", fit)
    monkeypatch.setattr("sys.argv", ["train.py"])
    with pytest.raises(UserError, match=message):
        TrainCLI(arguments, "train.py")
    written = {path.name for path in tmp_path.iterdir()}
    assert written <= {"diffusion.pt", root.name}
