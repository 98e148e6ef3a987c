"""Trains base classifiers and diffusion models: a thin door to diffsmooth/cli/train.py."""

from diffsmooth.cli.train import main

if __name__ == "__main__":
    main()
