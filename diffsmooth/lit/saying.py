"""What is said once, by rank zero."""

from lightning.pytorch.utilities import rank_zero_only

from diffsmooth.shown_text import shown


@rank_zero_only
def say(text: str) -> None:
    """Prints lines."""
    print("\n".join(shown(line) for line in text.splitlines()), flush=True)
