"""The end of a run: nothing is called finished that is not."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from diffsmooth.lit.certification import RunKeeper
from diffsmooth.runs.identity import RunIdentity
from diffsmooth.runs.manifest import RunContext
from diffsmooth.runs.names import OutputFiles
from diffsmooth.runs.outputs import Outputs
from diffsmooth.stats import FixedSampleSize, ImageRecord
from diffsmooth.stats.errors import UserError
from diffsmooth.stats.results import Origin

PLAN = FixedSampleSize(n0=1, n=10, alpha=0.1)
IDENTITY = RunIdentity(
    command="certify", dataset="d", split="test", data="0", size=3, skip=1, max=-1, classifier="a",
    classifier_set="", diffusion_set="", diffusion="b", arch="c", input_layer="none",
    purifier="oneshot", convention="diffsmooth", steps=1, runs=1, ties="", pad="none", sigma=0.5,
    m=5, sigma_local=0.25, seed=0, local_seed=42, plan=str(PLAN), batch=50, threads=1,
    precision="float32", compile=False, noise_source="n", hardware="cpu", content="0",
    image_shape=(3, 32, 32), class_names=(), torch="1", numpy="2",
)  # fmt: skip


def ended(folder: Path, indices: list[int]) -> Outputs:
    """The files where a run of images 0, 1 and 2 ends with the records of some."""
    outputs = Outputs(OutputFiles(folder / "o.txt"), IDENTITY)
    context = RunContext(1, 1, "cpu", "a.pt", "b.pt", "data")
    keeper, trainer = RunKeeper(outputs, context), SimpleNamespace(is_global_zero=True)
    outputs.claim(context, overwrite=False)
    origin = Origin(outputs.digest, "n", "0", (3, 32, 32))
    records = [ImageRecord(n, 0, 0.5, PLAN.nothing(0.5), origin=origin) for n in indices]
    module: Any = SimpleNamespace(records=records, selection=[0, 1, 2])
    keeper.teardown(trainer, module, "predict")  # type: ignore[arg-type]
    return outputs


def test_a_run_whose_images_are_not_all_there_is_not_finished(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="1 image missing, first 1"):
        ended(tmp_path, [0, 2])
    assert not (tmp_path / "o.txt").exists()
    assert not (tmp_path / "o.jsonl").exists()


def test_a_run_whose_images_are_all_there_is(tmp_path: Path) -> None:
    files = ended(tmp_path, [0, 1, 2]).files
    assert len(files.table.read_text().splitlines()) == 4
