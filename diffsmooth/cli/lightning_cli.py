"""LightningCLI over the training modules: what `train.py` runs when its words are no mistake."""

import os
import re
import shlex
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import lightning.pytorch as pl
import torch
import yaml
from jsonargparse import Namespace
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.callbacks import Checkpoint, ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher

from diffsmooth.cli.errors import OneLineErrors, fail, give_back_reserve, user_errors
from diffsmooth.cli.help_layout import HelpLayout
from diffsmooth.cli.log_names import LOGS, OURS, name_logs
from diffsmooth.cli.named_code import (
    HELP,
    OPTION,
    imports_allowed,
    not_allowed,
    read_allowed,
)
from diffsmooth.cli.train import KEYWORDS, SUBCOMMANDS
from diffsmooth.lit import training
from diffsmooth.lit.data.module import ImageDataModule
from diffsmooth.lit.launching import Launcher
from diffsmooth.lit.saying import say, silence_lightning
from diffsmooth.lit.stopping import INTERRUPTED, Stopped, end_with_parent, process_rank
from diffsmooth.lit.training.announcement import Announce, silence_warnings
from diffsmooth.lit.training.checkpoint_files import (
    default_checkpoints,
    last_checkpoint,
    read_trained,
)
from diffsmooth.lit.training.classifier import ClassifierTraining
from diffsmooth.lit.training.divergence import StopDiverged, TrainingDiverged
from diffsmooth.lit.training.module import TrainingModule
from diffsmooth.lit.training.pictures import LogPictures
from diffsmooth.lit.training.progress import TrainingProgress
from diffsmooth.lit.training.signals import KeepSignals
from diffsmooth.models.checkpoints.weights import load_weights
from diffsmooth.models.smoothing.memory import is_out_of_memory
from diffsmooth.pipeline.revision import git_revision
from diffsmooth.pipeline.train_checks import (
    check_anew,
    check_compile,
    check_images,
    check_monitors,
    check_numbers,
    check_optimizer,
    refusal,
)
from diffsmooth.pipeline.trainer import (
    Launched,
    check_processes,
    find_launcher,
    slurm_environment,
)
from diffsmooth.shown_text import quoted
from diffsmooth.stats.errors import UserError
from diffsmooth.whole_file import write_whole

LOST_SECONDS = 20.0  # by which a rank that is lost has ended


# What jsonargparse says, before it imports it, of code that a value may not name.
DENIED = re.compile(r"Importing '([\w.]+)' is not allowed")


class TrainParser(OneLineErrors, LightningArgumentParser):
    """LightningCLI's parser with errors of one line."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, formatter_class=HelpLayout, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        denied = DENIED.search(message)
        super().error(not_allowed(denied[1]) if denied else message, ex)


class SaveTrainingConfig(SaveConfigCallback):
    """Saves the config of a training, and hands it and the code's revision to the loggers.

    An evaluation must not replace them by its own.

    Attributes:
        folder: of the logs, once a training is set up; None where there is none.
    """

    folder: str | None = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if stage == "fit":
            folder = trainer.log_dir  # here: rank zero tells it to all, who must ask
            # The current folder's config.yaml is the user's.
            is_own = trainer.loggers and folder and Path(folder).resolve() != Path.cwd()
            self.folder = folder if is_own else None
            super().setup(trainer, pl_module, stage)

    def save_config(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if self.folder and "://" not in self.folder:  # Lightning's may be left half written
            text = self.parser.dump(self.config, skip_none=False)
            write_whole(Path(self.folder) / self.config_filename, text.encode())
        said = yaml.safe_load(self.parser.dump(self.config))
        for logger in trainer.loggers:
            logger.log_hyperparams({**said, "git_revision": git_revision()})


class TrainCLI(LightningCLI):
    """LightningCLI that turns user mistakes into one line, and evaluates exported checkpoints."""

    def __init__(self, args: list[str] | None, prog: str) -> None:
        self._prog = prog
        self._words = sys.argv[1:] if args is None else args
        TrainParser.command = prog
        args = read_allowed(self._words, prog, ("-c", "--config"))
        for method in dir(training):  # the parser knows the classes that are imported
            getattr(training, method)
        with imports_allowed():
            super().__init__(
                TrainingModule,
                ImageDataModule,
                subclass_mode_model=True,
                auto_configure_optimizers=False,  # the modules have an optimizer of their own
                save_config_callback=SaveTrainingConfig,
                save_config_kwargs={"save_to_log_dir": False},
                seed_everything_default=0,
                parser_class=TrainParser,
                trainer_defaults={
                    "logger": {"class_path": OURS, "init_args": LOGS},
                    "callbacks": [KeepSignals(), StopDiverged(), LogPictures(), Announce()],
                    "enable_model_summary": False,  # `Announce` says it
                },
                args=args,
            )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Lightning's but predict: that is `diffsmooth predict`."""
        known = LightningCLI.subcommands()
        return {name: known[name] for name in SUBCOMMANDS}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument(
            "--name",
            type=str | None,
            default=None,
            help="of the logs' folder under logs/ (in a config, name:); by default the first "
            "config's file name",
        )
        parser.add_argument(f"--{OPTION}", type=str | None, default=None, help=HELP)
        parser.link_arguments("data.info", "model.init_args.dataset", apply_on="instantiate")

    def _parse_ckpt_path(self) -> None:
        """Not as LightningCLI does: stored hyper-parameters never beat what the user says."""

    def instantiate_classes(self) -> None:
        given = self.config[self.subcommand]["trainer"]
        if not isinstance(given, Namespace):
            raise UserError(f"trainer must be options by their names, got {quoted(given)}")
        said = deepcopy(given.logger)
        name_logs(self.config[self.subcommand], self._words)
        super().instantiate_classes()
        if given.logger is not None:
            given.logger = said  # so that a saved config can be given another name
        check_images(self.datamodule, self.model)
        purified = self.datamodule.purified
        if purified is not None and isinstance(self.model, ClassifierTraining):
            self.model.check_views(purified.draws)
            self.model.purified_sigma = purified.sigma

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        given = self.config_init[self.subcommand]["trainer"]
        callbacks = given["callbacks"] or []
        callbacks = callbacks if isinstance(callbacks, list) else [callbacks]
        theirs = any(isinstance(callback, Checkpoint) for callback in callbacks)
        if given["enable_checkpointing"] is not False and not theirs:
            validated = self.datamodule.validation_images > 0 and given["limit_val_batches"] != 0
            callbacks = [*callbacks, *default_checkpoints(self.model.measured, validated)]
        if given["enable_progress_bar"] is not False and not any(
            isinstance(callback, ProgressBar) for callback in callbacks
        ):
            callbacks = [*callbacks, TrainingProgress()]
        own: dict[str, Any] = {"callbacks": callbacks}
        slurm = slurm_environment(os.environ)
        if slurm is not None and not given["plugins"] and str(given["devices"]) != "1":
            own["plugins"] = [slurm]
        return super().instantiate_trainer(**own, **kwargs)

    def before_fit(self) -> None:
        check_numbers(self.trainer)
        check_optimizer(self.trainer, self.model)
        check_compile(self.trainer, self.model)
        check_monitors(self.trainer, self.model)
        path = self._checkpoint_path()
        if path not in KEYWORDS:
            check_anew(self.trainer, path)
        if path in (None, "hpc"):
            return
        if path == "best":
            raise UserError("--ckpt_path best is known within a training only: name the file")
        if path == "last":
            path = str(last_checkpoint(self.trainer))
        checkpoint = read_trained(path)  # and see TrainingModule.on_load_checkpoint
        if not checkpoint.resumable:
            held = "only a part of a training's state" if checkpoint.family == "train.py" else ""
            raise UserError(
                f"{path}: holds {held or 'weights only'}, training cannot resume from it"
            )
        self.config_init[self.subcommand]["ckpt_path"] = path

    def _checkpoint_path(self) -> str | None:
        path = self.config_init[self.subcommand]["ckpt_path"]
        return None if path is None else str(path)

    def before_validate(self) -> None:
        # Not by Lightning: so an exported checkpoint will do, and what does not fit is named.
        path = self._checkpoint_path()
        if path is None or path in KEYWORDS:
            raise UserError(f"{self.subcommand} needs --ckpt_path FILE, the weights to evaluate")
        checkpoint = read_trained(path)
        self.model.check_evaluated(checkpoint)
        load_weights(self.model.network, checkpoint)
        if checkpoint.note:
            say(checkpoint.note)
        self.config_init[self.subcommand]["ckpt_path"] = None

    before_test = before_validate

    def _run_subcommand(self, subcommand: str) -> None:
        trainer, strategy = self.trainer, self.trainer.strategy
        if isinstance(trainer.accelerator, CPUAccelerator):
            check_processes(trainer.num_devices)
        launched = find_launcher(os.environ, trainer.num_devices, trainer.num_nodes)
        wanted = trainer.num_devices * trainer.num_nodes
        if trainer.world_size != wanted:
            raise UserError(
                f"{trainer.world_size} of {wanted} processes (devices x num_nodes) would train: "
                "start them by torchrun or srun"
            )
        end_with_parent(launched is not Launched.BY_US)
        launcher = None
        if type(strategy.launcher) is _SubprocessScriptLauncher:
            environment = strategy.launcher.cluster_environment
            launcher = Launcher(environment, trainer.num_devices, trainer.num_nodes)
            launcher.command = self._prog
            launcher.again = "--ckpt_path last goes on from the last checkpoint"
            strategy._launcher = launcher
        try:
            with self._stops():
                super()._run_subcommand(subcommand)
        except BaseException as error:
            if launcher is not None:
                if _of_another_rank(error):
                    time.sleep(LOST_SECONDS)  # the launcher says which was lost, and ends us
                launcher.end()
            raise
        if launcher is not None:
            launcher.release()

    @contextmanager
    def _stops(self) -> Iterator[None]:
        """Around the training: says how to go on, and where the disk is full."""
        try:
            yield
        except BaseException as error:
            give_back_reserve()  # what is said of it may need room
            code = _stopped(error)
            if code is not None:
                if process_rank() == 0:
                    print(f"\n{self._prog}: stopped; {self._how_to_go_on()}", file=sys.stderr)
                raise SystemExit(code) from None
            if isinstance(error, OSError) and error.filename is None:
                # Not the trainer's: it asks all ranks, and this one is alone.
                callbacks: list[pl.Callback] = self.trainer.callbacks  # type: ignore[attr-defined]
                kept = [c.folder for c in callbacks if isinstance(c, SaveTrainingConfig)]
                folder = next(filter(None, kept), self.trainer.default_root_dir)
                raise UserError(f"{folder}: {error.strerror or error}") from error
            if _of_a_loader(error):
                raise UserError(
                    "a process that loads images was lost, for want of memory perhaps: fewer "
                    f"--data.workers may help; {self._how_to_go_on()}"
                ) from error
            if is_out_of_memory(error):
                raise UserError("out of memory: give a smaller --data.batch_size") from error
            raise

    def _how_to_go_on(self) -> str:
        if self.subcommand != "fit":
            return "the same command begins anew"
        try:
            last_checkpoint(self.trainer)
        except UserError:
            return "nothing is saved yet: the same command begins anew"
        python = "python " if self._prog.endswith(".py") else ""
        words = going_on(self._words)
        return f"to go on from the last checkpoint: {python}{self._prog} {shlex.join(words)}"


def going_on(words: Sequence[str]) -> list[str]:
    """The words of a training that goes on from its last checkpoint, wherever it was begun from."""
    option = "--ckpt_path"
    kept = [
        word
        for before, word in pairwise(["", *words])
        if option not in (before, word) and not word.startswith(f"{option}=")
    ]
    return [*kept, option, "last"]


def _of_another_rank(error: BaseException) -> bool:
    """Whether it is but the end of the connection to another rank."""
    connection = isinstance(error, torch.distributed.DistError) or "gloo" in str(error)
    return isinstance(error, RuntimeError) and connection


def _of_a_loader(error: BaseException) -> bool:
    """Whether a loader's process has ended; torch says so wherever this one is at work."""
    return isinstance(error, RuntimeError) and str(error).startswith("DataLoader worker (pid")


def _stopped(error: BaseException) -> int | None:
    """The exit code, if a signal or Ctrl-C is what the error came from; None otherwise.

    What is under way when it ends may fail for that very reason.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, Stopped):
            return int(str(cause.code))
        if isinstance(cause, KeyboardInterrupt):
            return INTERRUPTED
        cause = cause.__cause__ or cause.__context__
    return None


def run_training(args: list[str] | None, prog: str) -> None:
    """Runs fit, validate or test on `args`, by default the process's."""
    warnings.filterwarnings("ignore", ".*LeafSpec.*")
    warnings.filterwarnings("ignore", ".*LightningCLI's args parameter.*")
    silence_lightning()
    silence_warnings()
    with user_errors(prog, TrainingDiverged):
        try:
            TrainCLI(args, prog)
        except Exception as error:
            said = refusal(error)
            if not said:
                raise
            fail(prog, said)
