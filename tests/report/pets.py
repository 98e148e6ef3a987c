"""A run on a folder of cats and dogs, as its files tell it, and the same with hostile names."""

from pathlib import Path

import numpy as np

from diffsmooth.runs.gallery import GalleryImage
from diffsmooth.runs.line import from_line, to_line
from diffsmooth.runs.reading import Run, results_of
from diffsmooth.stats import FixedSampleSize, ImageRecord
from diffsmooth.stats.results import Origin

FILES = ("cats/a.png", "cats/b.png", "dogs/a.png", "dogs/b c.png")
# Of 100 estimation votes those for dogs: a cat that is right, one taken for a dog, a dog that is
# right, and one on which the run abstains.
VOTES = (5, 95, 100, 55)
HOSTILE = "\x1b[2J</script><script>alert(1)</script>\u202e=1+1"


def pets(
    name: str = "pets",
    classes: tuple[str, ...] = ("cats", "dogs"),
    files: tuple[str, ...] = FILES,
    size: int = 4,
) -> Run:
    """Four images, votes and names as above, written to lines of a journal and read again."""
    records = []
    for index, (file, votes) in enumerate(zip(files, VOTES, strict=True)):
        run = FixedSampleSize(n0=10, n=100, alpha=0.001).start(0.5, 2)
        run.update(np.array([0, 10] if votes > 50 else [10, 0]))
        run.update(np.array([100 - votes, votes]))
        origin = Origin("0123456789abcdef", "integer, drawn", f"{index:016x}", (1, 4, 4), file)
        record = ImageRecord(index, index // 2, 1.5, run.certificate, "", origin)
        records.append(from_line(to_line(record)))
    pixels = np.arange(16, dtype=np.uint8).reshape(1, 4, 4)
    shown = tuple(
        GalleryImage(index, pixels, pixels, pixels, np.zeros((0, 1, 4, 4), np.uint8))
        for index in range(4)
    )
    path = Path(f"{name}.jsonl")
    identity = {"dataset": "pets", "class_names": list(classes), "size": size}
    lines = np.arange(4) + 1
    return Run(
        name, path, results_of(records, path), lines, (), tuple(records), identity, {}, shown
    )
