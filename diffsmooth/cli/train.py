"""`diffsmooth train`, also `python train.py`: LightningCLI over the training modules."""

import sys

from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from diffsmooth.cli.errors import OneLineErrors
from diffsmooth.lit.data.module import ImageDataModule
from diffsmooth.lit.training.module import TrainingModule


class TrainParser(OneLineErrors, LightningArgumentParser):
    """LightningCLI's parser with errors of one line."""


def main(args: list[str] | None = None, prog: str = "train.py") -> None:
    """Runs fit, validate or test on `args`, by default the process's."""
    TrainParser.command = prog
    LightningCLI(
        TrainingModule,
        ImageDataModule,
        subclass_mode_model=True,
        auto_configure_optimizers=False,  # the modules have an optimizer of their own
        save_config_kwargs={"overwrite": True},
        seed_everything_default=0,
        parser_class=TrainParser,
        args=sys.argv[1:] if args is None else args,
    )
