"""Each config of configs/train/ is what its record in configs/published.py says."""

import inspect
import math
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as pl
import pytest
import torch
from published import CLASSIFIERS, DIFFUSIONS, LOOPS
from published_records import COHEN, MACER, SALMAN, TRAINING_IMAGES, Classifier, Diffusion
from published_tables import DOCUMENT, with_tables
from torch.optim.lr_scheduler import MultiStepLR, StepLR

from diffsmooth.cli import train
from diffsmooth.cli.lightning_cli import TrainCLI
from diffsmooth.lit.data.module import ImageDataModule
from diffsmooth.lit.training.averaging import AverageWeights
from diffsmooth.lit.training.diffusion import DiffusionTraining
from diffsmooth.lit.training.module import TrainingModule
from diffsmooth.models.diffusion.presets import get_preset

CONFIGS = DOCUMENT.parents[1] / "configs" / "train"
by_config = pytest.mark.parametrize("record", CLASSIFIERS, ids=lambda record: record.config)


class Run(NamedTuple):
    """What train.py has made of a config when it would begin."""

    model: TrainingModule
    data: ImageDataModule
    trainer: pl.Trainer


@pytest.fixture
def begin(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], Run]:
    """Starts train.py on a config, up to the training itself; weights are not made."""

    def run(config: str) -> Run:
        found: list[Run] = []

        def keep(self: TrainCLI, subcommand: str) -> None:
            found.append(Run(self.model, self.datamodule, self.trainer))

        monkeypatch.setattr(TrainCLI, "_run_subcommand", keep)
        monkeypatch.chdir(tmp_path)
        words = ["fit", "-c", str(CONFIGS / f"{config}.yaml"), "--trainer.accelerator", "cpu"]
        with torch.device("meta"):
            train.main(words)
        (only,) = found
        return only

    return run


def steps_an_epoch(run: Run, images: int) -> int:
    """Optimiser steps that Lightning makes of an epoch on one device."""
    rounded = math.floor if run.data.drop_last else math.ceil
    batches = rounded(images / run.data.batch_size)
    return math.ceil(batches / run.trainer.accumulate_grad_batches)


def falls(rates: list[float]) -> tuple[int, ...]:
    """Epochs from which on the rate is a tenth of what it was before."""
    found = tuple(e for e in range(1, len(rates)) if rates[e] != rates[e - 1])
    for epoch in found:
        assert rates[epoch] == pytest.approx(rates[epoch - 1] / 10)
    return found


@pytest.mark.filterwarnings("ignore")  # Lightning's remarks on what it is given
@by_config
def test_a_config_is_its_record(record: Classifier, begin: Callable[[str], Run]) -> None:
    run = begin(record.config)
    said = run.model.settings()
    assert type(run.model).__name__ == record.method
    assert run.data.dataset == record.dataset
    names = ("sigma", "arch", "input_layer", "flip", "crop_padding")
    assert [said[name] for name in names] == [
        record.sigma,
        record.arch,
        record.input_layer,
        True,
        0 if record.random_scale else 4,
    ]
    assert run.data.random_resized_crop == record.random_scale
    for option in record.options:
        assert said[option.name] == option.value, option.name
    # What the record does not name, as an attack of consistency's, is left at its default.
    kinds = [kind for kind in type(run.model).__mro__ if issubclass(kind, TrainingModule)]
    given = [inspect.signature(kind.__init__).parameters for kind in kinds]
    left = {name: said[name] for own in given for name in own if name in said}
    for name in (*names, *(option.name for option in record.options)):
        left.pop(name, None)
    assert left == {name: own[name].default for own in given[::-1] for name in own if name in left}

    optimizer = run.model.new_optimizer()
    assert type(optimizer) is torch.optim.SGD
    (group,) = optimizer.param_groups
    assert group["lr"] == record.learning_rate
    assert group["weight_decay"] == record.weight_decay
    assert (group["momentum"], group["dampening"], group["nesterov"]) == (0.9, 0, False)

    assert run.data.batch_size == record.images
    assert run.data.validation_images == 0
    assert not run.data.drop_last
    assert run.trainer.accumulate_grad_batches == 1
    assert run.trainer.gradient_clip_val is None
    assert run.trainer.max_epochs == record.epochs
    steps = steps_an_epoch(run, TRAINING_IMAGES[record.dataset])
    assert steps == (record.our_steps or record.steps)
    schedule = run.model._learning_rate
    total = record.epochs * steps
    # The first and the last step of each epoch.
    for offset in (0, steps - 1):
        rates = [schedule.factor(e * steps + offset, total, steps) for e in range(record.epochs)]
        assert rates[0] == 1
        assert falls(rates) == record.falls
    assert run.trainer.precision == record.our_precision


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("record", DIFFUSIONS, ids=lambda record: record.config)
def test_a_diffusion_config_is_its_record(record: Diffusion, begin: Callable[[str], Run]) -> None:
    run = begin(record.config)
    model, data = run.model, run.data
    assert isinstance(model, DiffusionTraining)
    said = model.settings()
    assert (data.dataset, said["loss"], said["flip"]) == (record.dataset, "hybrid", record.flip)
    assert model.hparams.max_sigma is None
    assert data.validation_images == 0
    assert data.drop_last
    assert data.batch_size * run.trainer.accumulate_grad_batches == record.batch
    assert run.trainer.max_steps == record.steps
    assert run.trainer.precision == record.our_precision
    (average,) = (c for c in run.trainer.callbacks if isinstance(c, AverageWeights))
    assert (average.decay, average.every_n_steps) == (record.ema, 1)
    optimizer = model.new_optimizer()
    (group,) = optimizer.param_groups
    assert type(optimizer) is torch.optim.Adam
    assert (group["lr"], group["weight_decay"]) == (record.learning_rate, 0)
    assert group["betas"] == (0.9, 0.999)
    assert model._learning_rate.factor(record.steps - 1, record.steps, 1000) == 1

    flags = dict(zip(*[iter(record.flags.split())] * 2, strict=True))
    net, preset = model.unet.config, get_preset(model.hparams.preset)
    assert int(flags["--image_size"]) == net.image_size == record.side
    assert int(flags["--num_channels"]) == net.model_channels
    assert int(flags["--num_res_blocks"]) == net.num_res_blocks
    assert float(flags.get("--dropout", 0)) == net.dropout
    assert flags["--learn_sigma"] == "True"
    assert net.out_channels == 2 * net.in_channels
    assert int(flags["--diffusion_steps"]) == preset.schedule_steps
    assert flags["--noise_schedule"] == preset.schedule_kind
    if record.dataset == "imagenet":
        assert (data.reading.resize, data.reading.image_size) == ("box_bicubic", 256)
        assert flags["--attention_resolutions"] == ",".join(map(str, net.attention_resolutions))
        assert int(flags["--num_head_channels"]) == net.head_channels
        assert flags["--resblock_updown"] == str(net.resblock_updown)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("config", ["imagenet_macer", "imagenet_smoothmix", "imagenet_stability"])
def test_a_config_of_ours_for_imagenet_crops_as_the_published_ones(
    config: str, begin: Callable[[str], Run]
) -> None:
    run = begin(config)
    assert run.data.random_resized_crop
    assert run.model.settings()["crop_padding"] == 0


def published_rates(record: Classifier) -> Iterator[float]:
    """The rate of each epoch, from torch's own schedulers, stepped where the loop steps them."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    source = record.sources[0]
    if source.startswith(MACER):
        scheduler: Any = MultiStepLR(optimizer, milestones=[200, 400])
        for _ in range(1, record.epochs + 1):
            scheduler.step()
            yield optimizer.param_groups[0]["lr"]
        return
    scheduler = StepLR(optimizer, step_size=record.epochs // 3)
    for epoch in range(record.epochs):
        if source.startswith((COHEN, SALMAN)):
            scheduler.step(epoch)
        yield optimizer.param_groups[0]["lr"]
        if not source.startswith((COHEN, SALMAN)):
            scheduler.step(epoch)


@by_config
def test_the_rates_fall_where_the_published_loops_make_them(record: Classifier) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the order of steps, and of epochs as an argument
        assert falls(list(published_rates(record))) == record.falls


@by_config
def test_steps_are_what_the_published_loops_count(record: Classifier) -> None:
    left, steps = TRAINING_IMAGES[record.dataset], 0
    while left > 0:
        batch = min(left, record.batch)
        left -= batch
        steps += sum(1 for _ in range(record.parts) if batch // record.parts > 0)
    assert steps == record.steps


def header(path: Path) -> str:
    lines = path.read_text(encoding="utf-8").splitlines()
    words = [line.removeprefix("#").strip() for line in lines if line.startswith("#")]
    return " ".join(words)


def test_a_header_names_its_source_or_says_that_the_config_is_ours() -> None:
    records = {record.config: record for record in (*CLASSIFIERS, *DIFFUSIONS)}
    paths = sorted(CONFIGS.glob("*.yaml"))
    assert set(records) <= {path.stem for path in paths}
    for path in paths:
        said = header(path)
        record = records.get(path.stem)
        if record is None:
            assert "Ours" in said, path.name
            assert "Published:" not in said, path.name
            continue
        repository = record.sources[0].split(",")[0]
        assert f"github.com/{repository}" in said, path.name
        differences = said.partition("Differences: ")[2]
        assert "seed 0 (theirs sets none)" in differences, path.name
        reduced = f"bf16-mixed (theirs is {getattr(record, 'precision', 'float32')}" in differences
        assert reduced == (record.our_precision == "bf16-mixed"), path.name
        if isinstance(record, Classifier) and record.our_steps is not None:
            told = f"{record.our_steps} steps an epoch, not {record.steps}"
            assert told in differences, path.name
        if isinstance(record, Classifier) and record.falls[0] % 10:
            first, second = record.falls
            assert f"falls at epochs {first} and {second}, counted from 0" in said, path.name


def test_each_method_has_its_loop() -> None:
    assert {loop.method for loop in LOOPS} == {record.method for record in CLASSIFIERS}


def test_the_tables_of_the_document_are_current() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert with_tables(text) == text, "python configs/published_tables.py writes them anew"
