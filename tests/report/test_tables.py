"""The tables that compare runs, by hand."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from naming import named

from diffsmooth.report.radii import usual_radii
from diffsmooth.report.same_data import check_same_data, check_same_images
from diffsmooth.report.tables import (
    accuracy_table,
    bound_table,
    envelope_table,
    interval_table,
    long_table,
    paired_tables,
)
from diffsmooth.report.text import remarks_of
from diffsmooth.runs.reading import Run
from diffsmooth.stats import FixedSampleSize, ImageRecord, Results
from diffsmooth.stats.errors import UserError
from diffsmooth.stats.results import Origin


def test_radii_that_no_votes_can_reach_are_not_zero(results: Results) -> None:
    table = accuracy_table([named("mine", results)], np.array([0.5, 1.0])).text
    assert table.loc["mine"].tolist() == ["0.500", "n/a", "0.450", "0.100", "10"]
    assert table.columns.tolist() == ["0.50", "1.00", "ACR", "abstained", "images"]


def test_the_best_of_a_column_is_marked_ties_and_all(results: Results) -> None:
    worse = replace(results, radius=results.radius.clip(0, 0.45))
    table = accuracy_table([named("a", results), named("b", worse)], np.array([0.25, 0.5]))
    assert table.best[["0.25", "0.50", "ACR"]].to_numpy().tolist() == [
        [True, True, True],
        [True, False, False],
    ]
    assert not table.best[["abstained", "images"]].to_numpy().any()
    assert not accuracy_table([named("a", results)], np.array([0.25])).best.to_numpy().any()


def test_the_envelope_names_its_runs(results: Results) -> None:
    short = replace(results, prediction=np.zeros(10, dtype=int), radius=np.full(10, 0.3))
    runs = [named("long", results), named("short", short)]
    table = envelope_table(runs, np.array([0.25, 0.5, 0.95, 1.0]), 2)
    assert table.loc["certified accuracy"].tolist() == ["1.00", "0.50", "0.00", "n/a"]
    assert table.loc["best run"].tolist() == ["short", "long", "n/a", "n/a"]
    paths = [replace(run, name=f"logs/{run.name}/sigma_0.50") for run in runs]
    table = envelope_table(paths, np.array([0.25, 0.5]), 2)
    assert table.loc["best run"].tolist() == ["short", "long"]


def test_what_certifies_nothing_or_is_a_lower_bound_never_wins(
    results: Results, on_grid: Results
) -> None:
    radii = np.array([0.0, 0.2, 0.95])
    sure = replace(results, prediction=np.zeros(10, dtype=int))
    predicted = named("p", replace(sure, radius=np.zeros(10), max_radius=0.0, certifies=False))
    tolerant = named("t", replace(sure, tolerance=0.05, radius=results.radius + 0.05))
    stopped = named("s", replace(on_grid, alpha=0.0001, stopped_for=0.001))
    fixed = named("f", results)
    for other in (predicted, tolerant, stopped):
        runs = [other, fixed]
        assert accuracy_table(runs, radii).best.to_numpy()[:, :3].tolist() == [
            [False, False, False], [True, True, False],
        ]  # fmt: skip
        assert envelope_table(runs, radii).loc["best run"].tolist() == ["f", "f", "n/a"]
        for pair in ((other, fixed), (fixed, other)):
            assert set(paired_tables(pair[0], pair[1:], radii)[0].to_numpy().flat) == {"n/a"}
    twins = [stopped, named("s2", stopped.results)]
    assert accuracy_table(twins, radii).text.loc["s"].tolist()[:2] == ["n/a", ">= 0.800"]
    assert accuracy_table(twins, radii).text.loc["s", "abstained"] == "<= 0.100"
    assert envelope_table(twins, radii).loc["best run"].tolist() == ["n/a", "s", "n/a"]
    assert paired_tables(twins[0], twins[1:], radii)[0].loc["0.20"].tolist()[0] == "+0.000"
    with pytest.raises(ValueError, match="no run can be compared"):
        envelope_table([predicted], radii)
    remarks = remarks_of([stopped, fixed])
    assert any("stopped early for alpha 0.001" in remark for remark in remarks)


def test_a_grid_is_compared_at_its_radii_only(results: Results, on_grid: Results) -> None:
    runs = [named("fixed", results), named("grid", on_grid)]
    table = accuracy_table(runs, usual_radii(runs)).text
    assert table.loc["grid", "0.20"] == table.loc["fixed", "0.20"]
    assert table.loc["grid", "0.625"] == table.loc["fixed", "0.625"]
    assert table.loc["grid", "0.25"] == table.loc["grid", "ACR"] == "n/a"
    assert table.loc["fixed", "ACR"] == "0.450"
    alike = accuracy_table([runs[1], named("two", on_grid)], np.array([0.2])).text
    assert alike["ACR"].tolist() == [">= 0.450"] * 2
    tolerant = named("t", replace(on_grid, grid=(), tolerance=0.05))
    assert accuracy_table([runs[1], tolerant], np.array([0.2])).text["ACR"].tolist() == ["n/a"] * 2


def test_predictions_have_an_accuracy_and_no_average(results: Results) -> None:
    predictions = replace(results, radius=np.zeros(10), max_radius=0.0, certifies=False)
    runs = [named("certified", results), named("predicted", predictions)]
    table = accuracy_table(runs, np.array([0.0, 0.5])).text
    assert table.loc["predicted"].tolist() == ["0.900", "n/a", "n/a", "0.100", "10"]
    assert interval_table(runs, np.array([0.0])).loc["predicted", "ACR"] == "n/a"
    assert bound_table(runs, np.array([0.0]), 3, 0.001).loc["predicted"].tolist() == ["n/a"]
    assert "predicted: predictions without radii" in remarks_of(runs)[0]


def test_intervals_by_hand(results: Results) -> None:
    table = interval_table([named("a", results)], np.array([0.0, 1.0]))
    assert table.loc["a", "0.00"] == "0.554-0.998"
    assert table.loc["a", "1.00"] == "n/a"
    low, high = map(float, table.loc["a", "ACR"].split("-"))
    assert low < 0.45 < high


def test_the_high_probability_bound_needs_an_alpha(results: Results) -> None:
    run = named("a", results)
    assert bound_table([run], np.array([0.0]), 3, None).loc["a"].tolist() == ["n/a"]
    # 0.9 - 0.001 - sqrt(2 * 0.001 * 0.999 * log(1000) / 10) - log(1000) / 30 = 0.63158...
    for known in (
        bound_table([run], np.array([0.0]), 4, 0.001),
        bound_table([named("a", replace(results, alpha=0.001))], np.array([0.0]), 4, None),
    ):
        assert known.loc["a"].tolist() == ["0.6315"]
    tiny = bound_table([run], np.array([0.9]), 3, 0.001)
    assert tiny.loc["a"].tolist() == ["0.000"]  # a share is not below 0


def test_paired_runs_by_hand(results: Results, on_grid: Results) -> None:
    worse = replace(results, radius=results.radius.clip(0, 0.45))
    first, second, grid = named("a", results), named("b", worse), named("g", on_grid)
    (table,) = paired_tables(first, [second], np.array([0.25, 0.5]))
    columns = ["difference", "only a", "only b", "p (McNemar)", "p (Holm)"]
    assert table.columns.tolist() == columns
    assert table.loc["0.25"].tolist() == ["+0.000", "0", "0", "1", "1"]
    assert table.loc["0.50"].tolist() == ["+0.500", "5", "0", "0.063", "0.13"]  # 2 / 32, of two
    (table,) = paired_tables(first, [grid], np.array([0.2, 0.25]))
    assert table.loc["0.25"].tolist() == ["n/a"] * 5
    assert table.loc["0.20"].tolist() == ["+0.000", "0", "0", "1", "1"]


def test_p_values_are_corrected_for_all_that_are_shown(results: Results, on_grid: Results) -> None:
    """Two runs at three radii, and one that is decided at one of them only: 7 comparisons."""
    none = replace(results, radius=np.zeros(10))
    first, others = named("a", results), [named("b", none), named("c", none), named("g", on_grid)]
    tables = paired_tables(first, others, np.array([0.1, 0.2, 0.3]))
    # The first certifies 9, 8 and 7 images that the others do not: 2 / 2^9, 2 / 2^8, 2 / 2^7.
    for table in tables[:2]:
        assert table["p (McNemar)"].tolist() == ["0.004", "0.0079", "0.016"]
        # 7 x 2/512, 5 x 2/256 and 3 x 2/128, whichever of equals is first; rounded up.
        assert table["p (Holm)"].tolist() == ["0.028", "0.04", "0.047"]
    assert tables[2]["p (Holm)"].tolist() == ["n/a", "1", "n/a"]


def test_the_long_table_is_of_numbers(results: Results, on_grid: Results) -> None:
    runs = [named("a", replace(results, alpha=0.001, sigma=0.25)), named("g", on_grid)]
    table = long_table(runs, np.array([0.2, 0.25]), None)
    assert table["run"].tolist() == ["a", "a", "g", "g"]
    np.testing.assert_allclose(table["certified_accuracy"], [0.8, 0.7, 0.8, np.nan])
    np.testing.assert_allclose(table["average_certified_radius"], 0.45)
    assert table["average_is_lower_bound"].tolist() == [False, False, True, True]
    assert table["high_probability_bound"].isna().tolist() == [False, False, True, True]
    assert table["sigma"].tolist()[:2] == [0.25, 0.25]
    assert pd.isna(table["alpha"].iloc[2])
    assert (table["sigma"].dtype, table["alpha"].dtype) == (float, float)


def test_remarks(results: Results, on_grid: Results) -> None:
    assert remarks_of([named("fixed", results)]) == []
    runs = [named("fixed", results), replace(named("grid", on_grid), remarks=("was cut",))]
    assert remarks_of(runs)[0] == "grid: was cut"
    assert remarks_of(runs)[1].startswith("grid: decided at the radii of a grid only, so n/a")
    tolerant = named("t", replace(on_grid, grid=(), tolerance=0.05))
    assert "lower bounds" in remarks_of([tolerant])[0]
    status = np.array(["failed", "skipped"] + ["certified"] * 8)
    assert remarks_of([named("s", replace(results, status=status))]) == [
        "s: 1 image skipped, whose selected class is not the label",
        "s: 1 image failed, which counts as not certified; see the journal",
    ]


def test_runs_of_different_data_are_refused(results: Results) -> None:
    first = replace(named("a", results), identity={"dataset": "cifar10"})
    second = replace(named("b", results), identity={"dataset": "imagenet"})
    with pytest.raises(ValueError, match=r"b\.txt is of imagenet, but a\.txt is of cifar10"):
        check_same_data([first, named("x", results), second])
    label = results.label.copy()
    label[4] = 7
    other = named("b", replace(results, label=label))
    with pytest.raises(
        ValueError, match=r"b\.txt, line 6: image 4 has label 7, but on line 6 of a\.txt it has 0"
    ):
        check_same_data([first, other])
    elsewhere = named("e", replace(results, index=results.index + 100, label=label))
    check_same_data([first, elsewhere])
    with pytest.raises(ValueError, match=r"b\.txt, line 6: image 4 has label 7"):
        check_same_data([elsewhere, first, other])
    train = replace(first, identity={"dataset": "cifar10", "split": "train"})
    test = replace(first, identity={"dataset": "cifar10", "split": "test"})
    with pytest.raises(ValueError, match=r"is of cifar10 test, but .* is of cifar10 train"):
        check_same_data([train, test])


def test_only_the_same_images_are_paired(results: Results) -> None:
    first = named("a", results)
    second = named("b", replace(results, index=np.array([*range(9), 20])))
    with pytest.raises(ValueError, match=r"a\.txt, line 11: image 9 is not in b\.txt"):
        check_same_images(first, second)
    check_same_images(first, first)


def test_images_of_one_number_that_are_others_are_refused(results: Results) -> None:
    def run(name: str, digests: str, shape: tuple[int, ...] = (1, 8, 8)) -> Run:
        certificate = FixedSampleSize(1, 1).nothing(0.5)
        records = (
            ImageRecord(index, 0, 1.0, certificate, origin=Origin("a", "n", digest, shape))
            for index, digest in enumerate(digests)
        )
        return replace(named(name, results), records=tuple(records))

    check_same_data([run("a", "0123456789"), run("b", "0123456789")])
    check_same_data([run("a", "0123456789"), run("b", "abcdefghij", (1, 9, 9))])
    with pytest.raises(UserError, match=r"b\.txt: image 9 is another one than in a\.txt"):
        check_same_data([run("a", "0123456789"), run("b", "012345678x")])
