"""Certifies images: a thin door to diffsmooth/cli/certify.py."""

from diffsmooth.cli.certify import main

if __name__ == "__main__":
    main()
