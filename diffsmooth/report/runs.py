"""A run as reports take it: its results, and what lies beside them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from diffsmooth.report.gallery import GalleryImage
from diffsmooth.stats import ImageRecord, Results


@dataclass(frozen=True)
class Run:
    """Results with their name and origin.

    Attributes:
        name: for tables and legends.
        path: the file that was named.
        results: of all images.
        remarks: what a reader must know of the file, one line each.
        records: of the journal, by ascending index; empty where there is none.
        identity, context: of the manifest, as they are stored; empty where there is none.
        gallery: pixels of a few images, by ascending index; empty where there are none.
    """

    name: str
    path: Path
    results: Results
    remarks: tuple[str, ...] = ()
    records: tuple[ImageRecord, ...] = ()
    identity: Mapping[str, object] = MappingProxyType({})
    context: Mapping[str, object] = MappingProxyType({})
    gallery: tuple[GalleryImage, ...] = ()

    @property
    def dataset(self) -> str:
        """The dataset's name, "" where not known."""
        return str(self.identity.get("dataset", ""))
