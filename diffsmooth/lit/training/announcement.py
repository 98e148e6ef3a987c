"""What a training says: one line before it begins, and where its checkpoints are at its end."""

import warnings

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ModelCheckpoint

from diffsmooth.lit.saying import say
from diffsmooth.lit.training.checkpoint_files import epochs_trained
from diffsmooth.lit.training.module import TrainingModule
from diffsmooth.stats.printed import counted


def silence_warnings() -> None:
    """Leaves out warnings of what is meant so, or explained elsewhere."""
    for remark in (
        ".*does not have many workers.*",  # --data.workers is explained
        ".*is smaller than the logging interval.*",
        ".*Checkpoint directory .* exists and is not empty.*",
        ".*Experiment logs directory .* exists and is not empty.*",
    ):
        warnings.filterwarnings("ignore", remark)


class Announce(pl.Callback):
    """Says what is trained, on what, for how long; and what is left when it is done."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, TrainingModule)
        name, options = type(pl_module).__name__, pl_module.hparams
        said = {"arch": "", "sigma": "sigma "}
        what = [
            f"{text}{options[key]}" for key, text in said.items() if options.get(key) is not None
        ]
        count = sum(p.numel() for p in pl_module.network.parameters())
        batches = int(trainer.num_training_batches)
        epochs = trainer.max_epochs
        until = "epochs" if epochs in (None, -1) else counted(epochs or 0, "epoch")
        if trainer.max_steps >= 0:
            until += f", at most {counted(trainer.max_steps, 'step')},"
        epochs_before = epochs_trained(trainer)
        done = f", goes on after epoch {epochs_before}" if epochs_before else ""
        device = trainer.strategy.root_device.type
        say(
            f"training: {', '.join([name, *what])}, {count:,} parameters; {until} "
            f"of {batches:,} batches a process{done}; {trainer.world_size} x {device}, "
            f"{trainer.precision}; logs in {trainer.log_dir or 'none'}"
        )

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        lines = []
        for callback in trainer.checkpoint_callbacks:
            if not isinstance(callback, ModelCheckpoint):
                continue
            if callback.last_model_path:
                lines.append(f"last: {callback.last_model_path}")
            if callback.monitor and callback.best_model_path:
                score = callback.best_model_score
                value = "" if score is None else f", {callback.monitor} {float(score):.4f}"
                lines.append(f"best: {callback.best_model_path}{value}")
        say("\n".join([f"done: {counted(trainer.global_step, 'step')}", *lines]))
