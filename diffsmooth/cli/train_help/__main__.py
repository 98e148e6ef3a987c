"""`python -m diffsmooth.cli.train_help [FOLDER]`: makes the stored help of train.py anew."""

import contextlib
import io
import os
import platform
import re
import sys
from importlib.metadata import version
from pathlib import Path

from diffsmooth.cli.help_layout import example_text
from diffsmooth.cli.train import SUBCOMMANDS
from diffsmooth.cli.train_help import FOLDER, MADE_WITH, help_file

FIXED = {"COLUMNS": "80", "NO_COLOR": "1"}  # the terminal of whoever makes them is not ours
CONFIG = "configs/train/fashion_mnist_gaussian.yaml"
EVALUATE = f"-c {CONFIG} --ckpt_path checkpoints/fashion_mnist_gaussian_0.25.pt"
# What each does, and how it is called.
ABOUT = {
    "": ("Trains base classifiers and diffusion models by LightningCLI: layer configs with\n"
         "-c, then override anything (docs/training.md).", [f"fit -c {CONFIG}"]),
    "fit": ("Trains; begins anew, or goes on from --ckpt_path. Noise levels are\nstandard "
            "deviations in [0, 1] pixel units.", [
                f"fit -c {CONFIG}",
                f"fit -c {CONFIG} --ckpt_path last",
                f"fit -c {CONFIG} --model.init_args.sigma 0.12",
                "fit --model.help GaussianTraining",
            ]),
    "validate": ("Evaluates a checkpoint on the held-out images.",
                 [f"validate {EVALUATE}"]),
    "test": ("Evaluates a checkpoint on the test images.", [f"test {EVALUATE}"]),
}  # fmt: skip
# The sections by the beginnings of Lightning's titles, in the order of ours.
SECTIONS = {
    "options:": "options:",
    "Base of the training modules:": "model:",
    "Training, validation and test images": "data:",
    "Runs the full": "checkpoint:",
    "Perform one": "checkpoint:",
    "subcommands:": "subcommands:",
    "Customize every aspect": "trainer, which is Lightning's:",
}


def main(folder: Path) -> None:
    """Writes all texts to a folder."""
    from diffsmooth.cli.lightning_cli import TrainCLI

    os.environ |= FIXED
    sys.argv[0] = "train.py"
    for subcommand in ("", *SUBCOMMANDS):
        text = io.StringIO()
        with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
            TrainCLI([*filter(None, [subcommand]), "--help"], "train.py")
        lines = [line.rstrip() + "\n" for line in text.getvalue().splitlines()]
        (folder / help_file(subcommand).name).write_text(laid_out("".join(lines), subcommand))
    (folder / MADE_WITH.name).write_text(versions())


def laid_out(text: str, subcommand: str) -> str:
    """Lightning's help with what is ours before what is the trainer's, in words."""
    what, examples = ABOUT[subcommand]
    parts = re.split(r"^(\S[^\n]*:)$", text, flags=re.MULTILINE)[1:]
    titled = dict(zip(parts[::2], parts[1::2], strict=True))
    words = subcommand or f"{{{','.join(SUBCOMMANDS)}}}"
    said = [f"usage: train.py {words} [options]", what]
    for begins, ours in SECTIONS.items():
        said += [ours + "\n" + titled[title].strip("\n") for title in titled
                 if title.startswith(begins)]  # fmt: skip
    plain = "\n\n".join([*said, example_text("train.py", examples)]) + "\n"
    for one in SUBCOMMANDS:  # Lightning's words for each
        short = re.split("[;.]", ABOUT[one][0])[0]
        plain = re.sub(rf"^(    {one}  +)\S.*(\n {{10}}.*)*", rf"\1{short}", plain, flags=re.M)
    plain = re.sub(r":\w+:`~?([^`<]*?)`", lambda role: role[1].rpartition(".")[2], plain)
    return plain.replace("``", "").replace(",null}", "}")


def versions() -> str:
    """What the texts depend on, beside our own code."""
    python = ".".join(platform.python_version_tuple()[:2])
    packages = "".join(f"{name} {version(name)}\n" for name in ("lightning", "jsonargparse"))
    return f"python {python}\n{packages}"


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
