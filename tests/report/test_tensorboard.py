"""TensorBoard's events, read back."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from naming import named
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import plugin_data_pb2

from diffsmooth.report.tensorboard import curve_tags, folder_name, write_run
from diffsmooth.runs.gallery import GalleryImage
from diffsmooth.stats import (
    Results,
    average_certified_radius,
    certified_accuracy,
    certified_accuracy_interval,
)

CURVE, LOW, HIGH = curve_tags()


def events_of(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder))
    events.Reload()
    return events


def test_the_curve_the_figure_the_settings_and_the_images(results: Results, tmp_path: Path) -> None:
    pixels = np.full((1, 4, 4), 128, dtype=np.uint8)
    gallery = (
        GalleryImage(7, pixels, pixels, pixels // 2, np.stack([pixels] * 2)),
        GalleryImage(8, pixels, pixels, pixels, np.zeros((0, 1, 4, 4), np.uint8)),
    )
    run = replace(
        named("run", results),
        gallery=gallery,
        identity={"sigma": 0.5, "m": 5, "dataset": "cifar10", "seed": 10**400},
    )
    foreign = tmp_path / "events.out.tfevents.1.of.a.training"
    foreign.write_bytes(b"")
    for _ in range(2):  # showing a run again replaces what was shown
        write_run(tmp_path, run, "text")
    assert foreign.exists()
    assert len(list(tmp_path.iterdir())) == 2
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]  # not another run
    events = events_of(tmp_path)
    curve = {event.step: event.value for event in events.Scalars(CURVE)}
    assert len(curve) == 96
    for tag, expected in ((CURVE, 0.5), (LOW, 0.187), (HIGH, 0.813)):
        value = {event.step: event.value for event in events.Scalars(tag)}[500]
        np.testing.assert_allclose(value, expected, atol=1e-3)
    assert [event.value for event in events.Scalars("certified accuracy at 0.25")] == [
        np.float32(0.7)
    ]
    tags = events.Tags()["images"]
    assert "certified accuracy against radius" in tags
    image = events.Images("image 7: original, noisy, purified, local copies")[0]
    assert (image.width, image.height) == (20, 4)
    image = events.Images("image 8: original, noisy")[0]  # no purifier, no copies
    assert (image.width, image.height) == (8, 4)

    layout = layout_pb2.Layout()
    layout.ParseFromString(events.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0])
    (margin,) = layout.category[0].chart[1].margin.series
    assert (margin.value, margin.lower, margin.upper) == (CURVE, LOW, HIGH)

    plugin = events.summary_metadata["_hparams_/session_start_info"].plugin_data
    content = plugin_data_pb2.HParamsPluginData.FromString(plugin.content)
    settings = content.session_start_info.hparams
    assert (settings["sigma"].number_value, settings["m"].number_value) == (0.5, 5)
    assert settings["dataset"].string_value == "cifar10"
    plugin = events.summary_metadata["_hparams_/experiment"].plugin_data
    content = plugin_data_pb2.HParamsPluginData.FromString(plugin.content)
    metrics = {info.name.tag for info in content.experiment.metric_infos}
    assert {"average certified radius", "certified accuracy at 0.5"} <= metrics


def test_a_grid_at_its_points(on_grid: Results, tmp_path: Path) -> None:
    write_run(tmp_path, named("grid", on_grid), "text")
    events = events_of(tmp_path)
    curve = events.Scalars(CURVE)
    assert [(e.step, round(e.value, 6)) for e in curve] == [(200, 0.8), (625, 0.3)]
    assert "average certified radius (a lower bound)" in events.Tags()["scalars"]


def test_steps_and_tags_round_radii_down_and_tell_them_apart(
    results: Results, tmp_path: Path
) -> None:
    grid = (0.24996, 0.9996)
    write_run(tmp_path / "a", named("a", replace(results, grid=grid, max_radius=2.0)), "text")
    events = events_of(tmp_path / "a")
    assert [event.step for event in events.Scalars(CURVE)] == [249, 999]
    scalars = events.Tags()["scalars"]
    assert {"certified accuracy at 0.24996", "certified accuracy at 0.9996"} < set(scalars)
    grid = (0.25, 0.25004, 0.2501)
    write_run(tmp_path / "b", named("b", replace(results, grid=grid, max_radius=2.0)), "text")
    events = events_of(tmp_path / "b")
    assert [event.step for event in events.Scalars(curve_tags(5)[0])] == [25000, 25004, 25010]


def test_what_is_kept_as_float32_does_not_overstate(results: Results, tmp_path: Path) -> None:
    write_run(tmp_path, named("run", results), "text")
    events = events_of(tmp_path)
    radii = np.arange(96) / 100
    low, high = certified_accuracy_interval(results, radii).T
    kept = [np.array([event.value for event in events.Scalars(tag)]) for tag in (CURVE, LOW, HIGH)]
    assert np.all(kept[0] <= certified_accuracy(results, radii))
    assert np.all(kept[1] <= low)
    assert np.all(kept[2] >= high)
    average = events.Scalars("average certified radius")[0].value
    assert average <= average_certified_radius(results)
    assert average == pytest.approx(average_certified_radius(results))


def test_folders_have_names_of_letters_and_digits() -> None:
    names = ["noise_0.25/sigma_0.50", "..", "a b$", "sigma'"]
    assert [folder_name(name) for name in names] == [
        "noise_0.25_sigma_0.50", "run", "a_b_", "sigma_",
    ]  # fmt: skip


def test_predictions_have_no_average(results: Results, tmp_path: Path) -> None:
    write_run(tmp_path, named("p", replace(results, max_radius=0.0, certifies=False)), "text")
    scalars = events_of(tmp_path).Tags()["scalars"]
    assert "certified accuracy at 0" in scalars
    assert not [tag for tag in scalars if "average" in tag]
