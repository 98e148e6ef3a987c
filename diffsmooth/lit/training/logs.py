"""Where train.py logs unless a config says otherwise."""

from lightning.pytorch.loggers import TensorBoardLogger

UNSAID = "(train.py's)"  # marks what neither a config nor a flag has said


class TrainingLogs(TensorBoardLogger):
    """TensorBoard events in save_dir/name, without numbers of versions.

    Args:
        save_dir, name, version: as in Lightning; train.py fills in what is unsaid.
    """

    def __init__(
        self, save_dir: str = "logs", name: str | None = "training", version: str = ""
    ) -> None:
        super().__init__(save_dir, name, version, default_hp_metric=False)
