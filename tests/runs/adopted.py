"""Manifests that older versions wrote, made those of runs on this machine."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diffsmooth.lit.probes import hardware_name
from diffsmooth.whole_file import file_sha256


def adopt(stored: Path, out: Path, classifier: Path, **identity: Any) -> str:
    """Writes a stored manifest beside `out`, with fields of its identity replaced; its text."""
    manifest = json.loads(stored.read_text())
    manifest["identity"].update(
        classifier=file_sha256(classifier),
        hardware=hardware_name(torch.device("cpu")),
        torch=torch.__version__,
        numpy=np.__version__,
        **identity,
    )
    text = json.dumps(manifest, indent=2) + "\n"
    out.with_suffix(".manifest.json").write_text(text)
    return text
