"""Trains base classifiers and diffusion models: a thin door to diffsmooth/cli/train.py."""

from diffsmooth.cli.train import main
from diffsmooth.shown_text import escape_output

if __name__ == "__main__":
    escape_output()
    main()
