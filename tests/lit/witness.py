"""A callback that writes down what each rank of a training does; and kills all of them if asked."""

import hashlib
import os
import signal
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor


class Witness(pl.Callback):
    """Appends to FOLDER/rankR.txt: each step's noise and loss, and the weights at the end.

    Args:
        folder: must exist.
        kill_at: global step at whose end the whole process group gets SIGKILL.
    """

    def __init__(self, folder: str, kill_at: int | None = None) -> None:
        self.folder = Path(folder)
        self.kill_at = kill_at

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.file = open(self.folder / f"rank{trainer.global_rank}.txt", "a")  # noqa: SIM115
        noise: Any = module.noise

        def witnessed(images: Tensor, generator: torch.Generator) -> Tensor:
            drawn = noise(images, generator)
            if trainer.training:
                self.say("noise", trainer.global_step, digest([drawn]))
            return drawn

        module.noise = witnessed

    def on_train_batch_end(self, trainer: pl.Trainer, *arguments: Any) -> None:
        self.say("loss", trainer.global_step, float(arguments[1]["loss"]).hex())
        if trainer.global_step == self.kill_at:
            os.killpg(0, signal.SIGKILL)

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.say("weights", trainer.global_step, digest(list(module.network.state_dict().values())))

    def say(self, *words: Any) -> None:
        print(*words, file=self.file, flush=True)


def digest(tensors: list[Tensor]) -> str:
    whole = hashlib.sha256()
    for tensor in tensors:
        whole.update(tensor.detach().numpy().tobytes())
    return whole.hexdigest()
