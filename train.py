"""Trains base classifiers and diffusion models: a thin door to diffsmooth/cli/train.py."""

import sys

from diffsmooth.cli.main import run

if __name__ == "__main__":
    run("train", sys.argv[1:], "train.py")
