"""What is said once, by rank zero; and what Lightning says, which is not."""

import logging

from lightning.pytorch.utilities import rank_zero_only

from diffsmooth.shown_text import shown


@rank_zero_only
def say(text: str) -> None:
    """Prints lines."""
    print("\n".join(shown(line) for line in text.splitlines()), flush=True)


def silence_lightning() -> None:
    """Leaves out Lightning's remarks: devices, seeds, tips, a line a process. Warnings stay."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
