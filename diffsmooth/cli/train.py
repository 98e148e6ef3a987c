"""`diffsmooth train`, also `python train.py`: LightningCLI over the training modules."""

import warnings

import lightning.pytorch as pl
import yaml
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from diffsmooth.cli.errors import OneLineErrors, fail, root_message, user_errors
from diffsmooth.cli.revision import git_revision
from diffsmooth.lit.data.module import ImageDataModule
from diffsmooth.lit.training.classifier import ClassifierTraining
from diffsmooth.lit.training.module import TrainingDiverged, TrainingModule
from diffsmooth.models.formats import read_checkpoint
from diffsmooth.models.weights import load_weights

KEYWORDS = ("best", "last", "hpc")  # of Lightning's --ckpt_path


class TrainParser(OneLineErrors, LightningArgumentParser):
    """LightningCLI's parser with errors of one line."""


class SaveTrainingConfig(SaveConfigCallback):
    """Saves the config of a training, and hands it and the code's revision to the loggers.

    An evaluation must not replace them by its own.
    """

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if stage == "fit":
            super().setup(trainer, pl_module, stage)

    def save_config(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        said = yaml.safe_load(self.parser.dump(self.config))
        for logger in trainer.loggers:
            logger.log_hyperparams({**said, "git_revision": git_revision()})


class TrainCLI(LightningCLI):
    """LightningCLI that turns user mistakes into one line, and evaluates exported checkpoints."""

    def __init__(self, args: list[str] | None, prog: str) -> None:
        self._prog = prog
        TrainParser.command = prog
        super().__init__(
            TrainingModule,
            ImageDataModule,
            subclass_mode_model=True,
            auto_configure_optimizers=False,  # the modules have an optimizer of their own
            save_config_callback=SaveTrainingConfig,
            save_config_kwargs={"overwrite": True},
            seed_everything_default=0,
            parser_class=TrainParser,
            args=args,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        for name in ("dataset", "image_size", "exif"):
            parser.link_arguments(f"data.{name}", f"model.init_args.{name}")

    def _parse_ckpt_path(self) -> None:
        """Not as LightningCLI does: stored hyper-parameters never beat what the user says."""

    def instantiate_classes(self) -> None:
        try:
            super().instantiate_classes()
        except ValueError as error:
            fail(self._prog, root_message(error))
        purified = self.datamodule.purified
        if purified is not None:
            if not isinstance(self.model, ClassifierTraining):
                fail(self._prog, "data.purified is for the training of classifiers")
            self.model.purified_sigma = purified.sigma

    def before_fit(self) -> None:
        path = self._checkpoint_path()
        if path is None or path in KEYWORDS:
            return
        with user_errors(self._prog):  # and see TrainingModule.on_load_checkpoint
            checkpoint = read_checkpoint(path)
            if not checkpoint.resumable:
                raise ValueError(f"{path}: holds weights only, training cannot resume from it")

    def before_validate(self) -> None:
        self._load_weights()

    def before_test(self) -> None:
        self._load_weights()

    def _checkpoint_path(self) -> str | None:
        path = self.config_init[self.subcommand]["ckpt_path"]
        return None if path is None else str(path)

    def _load_weights(self) -> None:
        # Not by Lightning: so an exported checkpoint will do, and what does not fit is named.
        path = self._checkpoint_path()
        with user_errors(self._prog):
            if path is None or path in KEYWORDS:
                raise ValueError(
                    f"{self.subcommand} needs --ckpt_path FILE, the weights to evaluate"
                )
            checkpoint = read_checkpoint(path)
            load_weights(self.model.network, checkpoint)
            if checkpoint.note:
                rank_zero_info(checkpoint.note)
        self.config_init[self.subcommand]["ckpt_path"] = None


def main(args: list[str] | None = None, prog: str = "train.py") -> None:
    """Runs fit, validate or test on `args`, by default the process's."""
    warnings.filterwarnings("ignore", ".*LeafSpec.*")
    warnings.filterwarnings("ignore", ".*LightningCLI's args parameter.*")
    kinds = (ValueError, OSError, TrainingDiverged, MisconfigurationException)
    with user_errors(prog, *kinds):
        TrainCLI(args, prog)
