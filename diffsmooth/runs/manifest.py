"""The manifest: what a run's result depends on, and where and how the run was made."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from diffsmooth.runs.names import is_file
from diffsmooth.stats.errors import UserError
from diffsmooth.whole_file import write_whole


class ManifestError(UserError):
    """A manifest is broken, or not of its journal."""


class Manifest(NamedTuple):
    """What stands in the file.

    Attributes:
        identity: what the result depends on, as it was first written: see `RunIdentity`.
        context: what may change between starts: devices, paths, host, versions.
    """

    identity: Mapping[str, Any]
    context: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """A short name of the identity: 16 hex digits, as the journal's lines bear them."""
        return identity_digest(self.identity)


def identity_digest(identity: Mapping[str, Any]) -> str:
    """16 hex digits of an identity, whatever version of diffsmooth wrote it."""
    return hashlib.sha256(json.dumps(identity, indent=2).encode()).hexdigest()[:16]


def read_manifest(path: Path) -> Manifest | None:
    """The manifest in a file, None where there is no file.

    Raises:
        ManifestError: broken.
    """
    if not is_file(path):
        return None
    try:
        content = json.loads(path.read_bytes())
        manifest = Manifest(content["identity"], content["context"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ManifestError(f"{path}: not a manifest ({error})") from error
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read ({error.strerror})") from error
    if not all(isinstance(part, dict) for part in manifest):
        raise ManifestError(f"{path}: not a manifest (identity and context are wanted)")
    return manifest


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Writes a manifest, whole or not at all."""
    text = json.dumps({"identity": manifest.identity, "context": manifest.context}, indent=2)
    write_whole(path, f"{text}\n".encode())
