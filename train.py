"""Trains base classifiers and diffusion models: a thin door to diffsmooth/cli/train.py."""

from diffsmooth.cli.main import door

if __name__ == "__main__":
    door("train")
