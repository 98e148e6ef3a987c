"""`diffsmooth train`, also `python train.py`: LightningCLI over the training modules."""

import sys
import warnings

from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from diffsmooth.cli.errors import OneLineErrors, fail, root_message, user_errors
from diffsmooth.lit.data.images import DataError
from diffsmooth.lit.data.module import ImageDataModule
from diffsmooth.lit.training.module import TrainingModule
from diffsmooth.models.weights import check_weights, load_weights, read_checkpoint

KEYWORDS = ("best", "last", "hpc")  # of Lightning's --ckpt_path


class TrainParser(OneLineErrors, LightningArgumentParser):
    """LightningCLI's parser with errors of one line."""


class TrainCLI(LightningCLI):
    """LightningCLI that turns user mistakes into one line, and evaluates exported checkpoints."""

    def __init__(self, prog: str) -> None:
        self._prog = prog
        TrainParser.command = prog
        super().__init__(
            TrainingModule,
            ImageDataModule,
            subclass_mode_model=True,
            auto_configure_optimizers=False,  # the modules have an optimizer of their own
            save_config_kwargs={"overwrite": True},
            seed_everything_default=0,
            parser_class=TrainParser,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.link_arguments("data.dataset", "model.init_args.dataset")

    def instantiate_classes(self) -> None:
        try:
            super().instantiate_classes()
        except ValueError as error:
            fail(self._prog, root_message(error))

    def before_fit(self) -> None:
        path = self._checkpoint_path()
        if path is None:
            return
        with user_errors(self._prog):
            checkpoint = read_checkpoint(path)
            if not checkpoint.resumable:
                raise ValueError(f"{path}: holds weights only, training cannot resume from it")
            check_weights(self.model.network, checkpoint)

    def before_validate(self) -> None:
        self._load_weights()

    def before_test(self) -> None:
        self._load_weights()

    def _checkpoint_path(self) -> str | None:
        """--ckpt_path, if it names a file."""
        path = self.config_init[self.subcommand]["ckpt_path"]
        return None if path is None or path in KEYWORDS else str(path)

    def _load_weights(self) -> None:
        # Not by Lightning: so an exported checkpoint will do, and what does not fit is named.
        path = self._checkpoint_path()
        if path is not None:
            with user_errors(self._prog):
                load_weights(self.model.network, read_checkpoint(path))
            self.config_init[self.subcommand]["ckpt_path"] = None


def main(prog: str = "train.py") -> None:
    """Runs fit, validate or test on the process's arguments."""
    warnings.filterwarnings("ignore", ".*LeafSpec.*")
    sys.argv[0] = prog
    with user_errors(prog, DataError):
        TrainCLI(prog)
