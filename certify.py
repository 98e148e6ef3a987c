"""Certifies images: a thin door to diffsmooth/cli/certify.py."""

from diffsmooth.cli.certify import main
from diffsmooth.shown_text import escape_output

if __name__ == "__main__":
    escape_output()
    main()
