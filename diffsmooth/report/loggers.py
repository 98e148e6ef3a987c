"""A run in loggers of Lightning's, as TensorBoard shows it: beside trainings' curves."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from diffsmooth.report.tensorboard import logged_curves, metrics_of, settings_of, write_run
from diffsmooth.runs.reading import Run
from diffsmooth.stats.registry import imported

if TYPE_CHECKING:  # Lightning takes seconds
    from lightning.pytorch.loggers import Logger

MakeLogger = Callable[[Path, str], "Logger"]


def csv_logger(folder: Path, name: str) -> "Logger":
    """FOLDER/metrics.csv and hparams.yaml; what an earlier call wrote is replaced."""
    from lightning.pytorch.loggers import CSVLogger

    return CSVLogger(folder, name="", version="")


def wandb_logger(folder: Path, name: str) -> "Logger":
    """A run of the project diffsmooth; without a network where WANDB_MODE is offline.

    It says nothing itself: not even at the end of the process, after the closing table.
    """
    import wandb
    from lightning.pytorch.loggers import WandbLogger

    settings = wandb.Settings(silent=True)
    run = wandb.init(project="diffsmooth", name=name, dir=folder, settings=settings)
    return WandbLogger(experiment=run)


LOGGERS: dict[str, MakeLogger] = {"csv": csv_logger, "wandb": wandb_logger}


def log_run(words: Sequence[str], folder: Path, run: Run, text: str) -> None:
    """Logs a run to each logger that is named.

    Args:
        words: tensorboard, csv, wandb, none, or `package.module:factory` of a Lightning logger,
            from a folder and a name.
        folder: the run's own; its name is the run's.
        run: at least one image.
        text: shown as it is.

    Raises:
        UserError: no such factory.
    """
    for word in dict.fromkeys(words):
        if word == "tensorboard":
            write_run(folder, run, text)
        elif word != "none":
            make = LOGGERS.get(word) or cast(MakeLogger, imported(word))
            folder.mkdir(parents=True, exist_ok=True)
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Experiment logs directory")  # of our own run
                write_logger(make(folder, folder.name), run)


def write_logger(logger: "Logger", run: Run) -> None:
    """A run's settings, curve and averages; steps and names are those of `write_run`."""
    steps, curves = logged_curves(run.results)
    logger.log_hyperparams(settings_of(run))
    for place, step in enumerate(steps):
        values = {tag: float(curve[place]) for tag, curve in curves.items()}
        if place == 0:
            values |= metrics_of(run)
        logger.log_metrics(values, step)
    logger.save()
    logger.finalize("success")
