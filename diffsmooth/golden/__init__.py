"""Golden vectors: inputs and outputs of the published algorithms, see README.md here."""

from pathlib import Path

FOLDER = Path(__file__).parent
