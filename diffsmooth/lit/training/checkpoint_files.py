"""The checkpoints that a training writes: whole at every moment, and found again."""

import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loops.loop import _Loop
from lightning.pytorch.plugins import TorchCheckpointIO
from lightning.pytorch.plugins.io import AsyncCheckpointIO

from diffsmooth.models.checkpoints.formats import read_checkpoint
from diffsmooth.models.checkpoints.saving import save_whole
from diffsmooth.models.checkpoints.weight_sets import SetName
from diffsmooth.models.checkpoints.weights import Checkpoint
from diffsmooth.stats.errors import UserError

LEFTOVERS = ".diffsmooth-*"  # how `whole_file` names what it has not finished
RETURNED_KEY = "fit_returned"  # in a checkpoint: whether it was saved after that
ABANDONED = 3600.0  # seconds without a change


class WholeCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place, and renames it when it is on the disk.

    Lightning writes to the folder of temporary files and copies, where that is another file system:
    whoever is killed meanwhile loses the old checkpoint, too.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        """Saves it; the file's folder is made if it is missing.

        Raises:
            UserError: the file cannot be written; an older one of this name is as it was.
        """
        if "://" in str(path):  # a store's; Lightning knows how
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        remove_leftovers(Path(path).parent)
        save_whole(Path(path), checkpoint)


def default_checkpoints(measured: tuple[str, ...], validated: bool) -> list[ModelCheckpoint]:
    """last.ckpt, to go on from, and best.ckpt, to use.

    Args:
        measured: names of what is measured; the best is by noisy_accuracy, or else by loss.
        validated: whether images are held out for that; without, there is no best.
    """
    by, mode = ("noisy_accuracy", "max") if "noisy_accuracy" in measured else ("loss", "min")
    last = ModelCheckpoint(save_last=True, enable_version_counter=False)
    best = ModelCheckpoint(
        filename="best", monitor=f"val/{by}", mode=mode, enable_version_counter=False
    )
    return [last, best] if validated else [last]


def write_whole_checkpoints(trainer: pl.Trainer) -> None:
    """Makes a trainer write them so, unless it has a plugin of its own for that.

    Those that keep the best come first: a last.ckpt from before would have the best of an epoch
    ago, and who goes on from it would put a worse one in its place.

    Raises:
        UserError: AsyncCheckpointIO, or ModelCheckpoint's save_last: link, which leave moments
            without a whole file.
    """
    strategy = trainer.strategy
    if type(strategy.checkpoint_io) is TorchCheckpointIO:
        strategy.checkpoint_io = WholeCheckpointIO()
    if isinstance(strategy.checkpoint_io, AsyncCheckpointIO):
        raise UserError("AsyncCheckpointIO leaves torn checkpoints where it is killed: take it out")
    callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    callbacks.sort(key=lambda c: isinstance(c, ModelCheckpoint) and c.monitor is None)
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, ModelCheckpoint) and callback.save_last == "link":
            raise UserError(
                "ModelCheckpoint's save_last: link removes last.ckpt before it makes the next: "
                "set it to true"
            )


def epochs_trained(trainer: pl.Trainer) -> int:
    """How many epochs are behind a training, also before they are counted as completed."""
    return int(trainer.fit_loop.epoch_progress.current.processed)  # type: ignore[attr-defined]


def save_the_end(trainer: pl.Trainer) -> None:
    """Saves the last checkpoint at an epoch's end, if that is where the training ends.

    ModelCheckpoint saves as validations end, and these may be rarer than epochs. Once the training
    has ended, `AverageWeights` has replaced the trained weights.
    """
    steps, epochs = trainer.max_steps, trainer.max_epochs
    is_end = (
        trainer.should_stop
        or 0 <= steps <= trainer.global_step
        or 0 <= (-1 if epochs is None else epochs) <= epochs_trained(trainer)
    )
    for callback in trainer.checkpoint_callbacks if is_end else ():
        if not isinstance(callback, ModelCheckpoint) or callback.monitor:
            continue
        # Those do it themselves, after those that keep the best: see `write_whole_checkpoints`.
        every = callback._every_n_epochs
        is_turn = every and (trainer.current_epoch + 1) % every == 0
        if is_turn and callback._should_save_on_train_epoch_end(trainer):
            continue
        if not callback._should_skip_saving_checkpoint(trainer):
            candidates = callback._monitor_candidates(trainer)
            callback._save_topk_checkpoint(trainer, candidates)
            callback._save_last_checkpoint(trainer, candidates)


def count_saved_epoch(trainer: pl.Trainer) -> None:
    """Begins the next epoch where a training goes on from the end of one.

    Its checkpoint was saved before that epoch was counted. Lightning knows, but not where max_steps
    is given: there it counts an epoch without a batch, so that the order of one is left out. And
    where it was saved with the last batch, Lightning counts that epoch, and then does not begin
    the next one: whoever goes on from the middle of that would find it again at its begin.
    """
    loop = trainer.fit_loop
    batches = loop.epoch_loop
    if (
        loop.restarted_mid_epoch
        and batches.restarted_on_train_batch_end
        and batches.batch_progress.is_last_batch
    ):
        loop.reset_restart_stage()
    if not loop.restarted_on_epoch_end:
        return
    _Loop.restarting.fset(loop, False)  # type: ignore[attr-defined]  # the loop's own would not
    for part in (loop, batches, batches.val_loop):
        part.reset_restart_stage()
    loop.epoch_progress.increment_completed()


def count_whole_epochs(checkpoint: dict[str, Any]) -> None:
    """Makes a checkpoint of a training that ended one of before its last epoch was counted.

    Lightning saves one that ended within an epoch as if the epoch were done, and would leave the
    rest of it out; and one that is saved once `fit` has returned knows of no epoch's end, see
    `count_saved_epoch`.
    """
    loop = checkpoint["loops"]["fit_loop"]
    epochs, batches = loop["epoch_progress"], loop["epoch_loop.batch_progress"]
    current, words = epochs["current"], []
    if checkpoint.get(RETURNED_KEY):
        words.append("completed")
    if not batches["is_last_batch"] and (words or current["processed"] == current["completed"] + 1):
        words.append("processed")
    for word in words:
        current[word] -= 1
        epochs["total"][word] -= 1


def forget_missing(trainer: pl.Trainer) -> None:
    """Lets go of the best checkpoints that are not there: a last.ckpt may have come alone.

    Lightning would keep their scores, so that perhaps no best.ckpt is written any more. What rank
    zero sees decides for all.
    """
    for callback in trainer.checkpoint_callbacks:
        if not isinstance(callback, ModelCheckpoint) or not callback.monitor:
            continue
        paths = {*callback.best_k_models, callback.best_model_path} - {""}
        missing = {path for path in paths if "://" not in path and not Path(path).exists()}
        missing = trainer.strategy.broadcast(missing)
        for path in missing:
            callback.best_k_models.pop(path, None)
        if callback.best_model_path in missing:
            callback.best_model_path, callback.best_model_score = "", None


def remove_leftovers(folder: Path) -> None:
    """Removes what processes that were killed long ago have left of files half written."""
    for leftover in folder.glob(LEFTOVERS):
        try:
            if time.time() - leftover.lstat().st_mtime > ABANDONED:
                leftover.unlink()
        except FileNotFoundError:
            continue  # another process was faster


def last_checkpoint(trainer: pl.Trainer) -> Path:
    """The newest last.ckpt where the trainer's callbacks keep theirs.

    Raises:
        UserError: there is none. (Lightning would begin anew, and replace what there is.)
    """
    callbacks = [c for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint)]
    if not callbacks:
        raise UserError("--ckpt_path last: no ModelCheckpoint among the trainer's callbacks")
    found = {Path(p) for c in callbacks for p in c._find_last_checkpoints(trainer)}
    if not found:
        folder = callbacks[0].dirpath or trainer.log_dir or trainer.default_root_dir
        raise UserError(
            f"--ckpt_path last: no last.ckpt under {folder} yet: leave --ckpt_path out to begin, "
            "or name the file"
        )
    return max(found, key=lambda path: path.lstat().st_mtime)


def read_trained(path: Path | str, weights: SetName | None = None) -> Checkpoint:
    """Reads a checkpoint, of two sets of weights the one that is asked for.

    Raises:
        UserError: see `read_checkpoint`; of a broken file, the message names the newest whole
            checkpoint beside it.
    """
    path = Path(path)
    try:
        return read_checkpoint(path, weights=weights)
    except UserError as error:
        beside = (p for p in path.parent.glob("*.ckpt") if p.is_file() and p != path)
        for other in sorted(beside, key=lambda p: p.stat().st_mtime, reverse=True):
            try:
                read_checkpoint(other)
            except UserError:
                continue
            raise UserError(f"{error}; the newest whole one beside it is {other}") from error
        raise
