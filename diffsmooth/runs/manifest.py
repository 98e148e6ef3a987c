"""The manifest: what a run's result depends on, and where and how the run was made."""

import hashlib
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from diffsmooth import __version__
from diffsmooth.runs.names import is_there
from diffsmooth.runs.probes import Probe
from diffsmooth.stats.errors import UserError
from diffsmooth.whole_file import write_whole


class ManifestError(UserError):
    """A manifest is broken, or not of its journal."""


class RunContext(NamedTuple):
    """Where and how a run was made; free to change on resume.

    Attributes:
        dataset: as the user named it; the identity has the name of its images.
        image_size, exif, weights: the options, by which files became images and weights; for those
            who need both again.
        begun: when the run was begun, UTC.
        device, made_by: what computed at the last start, and the versions of what else took part.
        probes: those of all starts so far; one hardware must give one digest.
    """

    devices: int
    nodes: int
    accelerator: str
    classifier: str
    diffusion: str
    data_root: str
    shard: str = ""
    dataset: str = ""
    image_size: int | None = None
    exif: str | None = None
    weights: str | None = None
    host: str = platform.node()
    version: str = __version__
    begun: str = ""
    device: str = ""
    made_by: Mapping[str, str] = {}
    probes: tuple[Probe, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """For the manifest."""
        return self._asdict() | {"probes": [probe._asdict() for probe in self.probes]}


class Manifest(NamedTuple):
    """What stands in the file.

    Attributes:
        path: the file.
        identity: what the result depends on, as it was first written: see `RunIdentity`.
        context: what may change between starts: devices, paths, host, versions.
    """

    path: Path
    identity: Mapping[str, Any]
    context: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """A short name of the identity: 16 hex digits, as the journal's lines bear them."""
        return hashlib.sha256(json.dumps(self.identity, indent=2).encode()).hexdigest()[:16]

    @property
    def probes(self) -> list[Probe]:
        """What the starts so far made of their probe batch; none in a version that had none.

        Raises:
            ValueError, TypeError: they are broken; not of what `read_manifest` gives.
        """
        probes = [Probe(**probe) for probe in self.context.get("probes", [])]
        for probe in probes:
            *words, rounding = probe
            sound = all(isinstance(word, str) for word in words)
            if not sound or type(rounding) not in (int, float):
                raise TypeError(f"{probe} is no probe")
        return probes


def read_manifest(path: Path) -> Manifest | None:
    """The manifest in a file, None where there is no file.

    Raises:
        ManifestError: broken.
        UserError: something else is there, see `is_there`.
    """
    if not is_there(path):
        return None
    try:
        content = json.loads(path.read_bytes())
        manifest = Manifest(path, {**content["identity"]}, {**content["context"]})
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ManifestError(f"{path}: not a manifest ({error})") from error
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        _ = manifest.probes
    except (ValueError, TypeError) as error:
        raise ManifestError(f"{path}: not a manifest (broken probes)") from error
    return manifest


def write_manifest(manifest: Manifest) -> None:
    """Writes a manifest, whole or not at all."""
    text = json.dumps({"identity": manifest.identity, "context": manifest.context}, indent=2)
    write_whole(manifest.path, f"{text}\n".encode())


def computed_by() -> str:
    """What computes bounds and radii here: of the same name, the same bits."""
    import scipy  # only now: it takes a while

    return f"SciPy {scipy.__version__} on {platform.machine()}"
