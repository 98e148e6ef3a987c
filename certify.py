"""Certifies images: a thin door to diffsmooth/cli/certify.py."""

import sys

from diffsmooth.cli.main import run

if __name__ == "__main__":
    run("certify", sys.argv[1:], "certify.py")
