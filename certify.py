"""Certifies images: a thin door to diffsmooth/cli/certify.py."""

from diffsmooth.cli.main import door

if __name__ == "__main__":
    door("certify")
