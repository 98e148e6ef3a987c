"""`diffsmooth demo`: the shipped certification, which needs no other file."""

from collections.abc import Sequence
from pathlib import Path

import yaml

from diffsmooth.cli import certify
from diffsmooth.shipped import located

DESCRIPTION = """Certifies 20 real images, two a class, with networks that are shipped: about a
minute on two CPU cores that compute in bf16, three and a half on two that do not. The table is
logs/demo.txt, below the folder where it is run. This is `diffsmooth certify --config pkg:demo
--overwrite`, and takes that command's options, none of which is required."""
EXAMPLES = ("", "--sigma 0.25 --outfile logs/demo_0.25.txt")


def main(args: Sequence[str] = (), prog: str = "diffsmooth demo") -> None:
    """Runs `certify` on the shipped config; `args` may change what it says."""
    preset = yaml.safe_load(Path(located("pkg:demo")).read_text()) | {"overwrite": True}
    words = ["--config", "pkg:demo", "--overwrite", *args]
    certify.main(words, prog, DESCRIPTION, EXAMPLES, preset)
