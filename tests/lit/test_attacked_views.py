"""The command line refuses an attack on several purified draws before anything is written."""

from pathlib import Path

import pytest

from diffsmooth.cli.lightning_cli import TrainCLI
from diffsmooth.stats.errors import UserError


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
