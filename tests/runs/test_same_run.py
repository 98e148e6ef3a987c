import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import ndtri

from diffsmooth.runs.identity import stored_selection
from diffsmooth.runs.journal import Journal
from diffsmooth.runs.manifest import Manifest, ManifestError
from diffsmooth.runs.same_run import check_possible, check_same_run, check_whole
from diffsmooth.stats import FixedSampleSize, GroupSequential, ImageRecord, MajorityVote, Plan
from diffsmooth.stats.plan_words import plan_of_text
from diffsmooth.stats.results import Origin

FIXED = FixedSampleSize(n0=1, n=10, alpha=0.1)
LOOKS = GroupSequential(n0=1, n=100, alpha=0.1, first_look=50, radii=(0.25,), label_aware=True)
IDENTITY = {
    "sigma": 0.5, "size": 100, "skip": 10, "max": 55, "plan": str(FIXED), "numerics": 1,
    "noise_source": "n", "image_shape": [3, 32, 32],
}  # fmt: skip


def record_of(of: dict[str, Any], plan: Plan, index: int = 20, **other: Any) -> ImageRecord:
    run = plan.start(0.5, 2, label=1)
    while run.wanted:
        run.update(np.array([0, run.wanted]))
    told = {"noise_source": "n", "image": "0", "image_shape": (3, 32, 32), **other}
    origin = Origin(**{"identity": Manifest(Path("m"), of, {}).digest} | told)
    return ImageRecord(index, 1, 1.0, run.certificate, origin=origin)


def check(identity: dict[str, Any], *records: ImageRecord) -> None:
    lines = np.arange(len(records)) + 7
    manifest = Manifest(Path("m"), identity, {})
    check_same_run(Journal(Path("j"), records, lines, ()), manifest)


@pytest.mark.parametrize("plan", [FIXED, LOOKS, MajorityVote(10, 0.1)])
def test_a_run_is_of_its_manifest(plan: Plan) -> None:
    identity = IDENTITY | {"plan": str(plan)}
    failed = dataclasses.replace(record_of(identity, plan), certificate=plan.nothing(0.5))
    check(identity, record_of(identity, plan), failed)
    check({}, record_of({}, plan, index=5))  # what is not told is not compared
    old = {name: value for name, value in identity.items() if name != "numerics"}
    check(old, dataclasses.replace(record_of(old, plan), origin=None))


def test_who_skips_must_have_been_told_to() -> None:
    identity = IDENTITY | {"plan": str(LOOKS)}
    run = LOOKS.start(0.5, 2, label=1)
    run.update(np.array([1, 0]))
    skipped = dataclasses.replace(record_of(identity, LOOKS), certificate=run.certificate)
    check(identity, skipped)
    strict = IDENTITY | {"plan": str(dataclasses.replace(LOOKS, label_aware=False))}
    origin = record_of(strict, LOOKS).origin
    with pytest.raises(ManifestError, match="was skipped, but the manifest's plan skips none"):
        check(strict, dataclasses.replace(skipped, origin=origin))


@pytest.mark.parametrize(
    ("plan", "other"),
    [
        (FIXED, {"n0": 2}), (FIXED, {"n": 11}), (FIXED, {"alpha": 0.5}),
        (LOOKS, {"radii": (0.5,)}), (LOOKS, {"first_look": 40}), (LOOKS, {"tolerance": 0.1}),
    ],
)  # fmt: skip
def test_votes_of_another_plan_are_named_by_their_line(plan: Any, other: dict[str, Any]) -> None:
    identity = IDENTITY | {"plan": str(plan)}
    right = record_of(identity, plan)
    wrong = record_of(identity, dataclasses.replace(plan, **other), index=30)
    with pytest.raises(ManifestError, match=r"m is not the manifest of j: on line 8, image 30 has"):
        check(identity, right, wrong)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"index": 25}, "is not among the images of the run"),
        ({"index": 60}, "is not among the images of the run"),
        ({"identity": "0"}, "is of the run 0"),
        ({"noise_source": "o"}, "noise_source 'o'"),
        ({"image_shape": (1, 32, 32)}, "image_shape"),
    ],
)
def test_lines_of_another_run_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ManifestError, match=f"on line 7, image .*{message}"):
        check(IDENTITY, record_of(IDENTITY, FIXED, **change))


def test_a_line_that_lost_its_origin_is_refused() -> None:
    bare = dataclasses.replace(record_of(IDENTITY, FIXED), origin=None)
    with pytest.raises(ManifestError, match="has a line of format 1"):
        check(IDENTITY, bare)


@pytest.mark.parametrize(
    "change",
    [
        {"skip": 0}, {"skip": -1}, {"size": "9"}, {"size": 10**30}, {"max": 1.5}, {"skip": True},
        {"plan": 3}, {"plan": "FixedSampleSize()()"}, {"plan": "x" * 5000}, {"plan": "(" * 5000},
        {"plan": "FixedSampleSize(n0=1, n=0, alpha=0.1)"}, {"plan": "Other(n0=1)"},
    ],
)  # fmt: skip
def test_what_no_run_can_have_is_no_manifest(change: dict[str, Any]) -> None:
    with pytest.raises(ManifestError, match="m: not a manifest"):
        check(IDENTITY | change, record_of(IDENTITY | change, FIXED))


def test_a_radius_beyond_what_the_votes_can_give_is_refused() -> None:
    manifest, lines = Manifest(Path("m"), IDENTITY, {}), np.array([2, 3])
    largest = 0.5 * ndtri(0.1 ** (1 / 10))
    check_possible(manifest, np.array([0.0, largest]), lines, Path("t"))
    check_possible(Manifest(Path("m"), {}, {}), np.array([0.0, 9.9]), lines, Path("t"))
    with pytest.raises(ManifestError, match=r"t, line 3: radius is 9\.9, but the plan in m can"):
        check_possible(manifest, np.array([0.0, 9.9]), lines, Path("t"))
    for sigma in ("0.5", -1.0, float("nan"), []):
        wrong = Manifest(Path("m"), IDENTITY | {"sigma": sigma}, {})
        with pytest.raises(ManifestError, match="m: not a manifest"):
            check_possible(wrong, np.array([0.1]), lines, Path("t"))


def test_a_run_has_all_of_its_images() -> None:
    manifest = Manifest(Path("m"), IDENTITY, {})
    check_whole(manifest, np.arange(0, 55, 10), Path("t"))
    check_whole(Manifest(Path("m"), {}, {}), np.arange(3), Path("t"))
    with pytest.raises(ManifestError, match="t: 2 of the 6 images that m tells are missing"):
        check_whole(manifest, np.array([0, 10, 30, 40]), Path("t"))
    with pytest.raises(ManifestError, match="image 60 is not among the images of the run"):
        check_whole(manifest, np.arange(0, 65, 10), Path("t"))


@pytest.mark.parametrize("largest", [-1, 0, 1, 30, 31, 100, 1000])
@pytest.mark.parametrize("skip", [1, 7, 200])
def test_the_selection_by_its_definition(skip: int, largest: int) -> None:
    found = stored_selection({"size": 100, "skip": skip, "max": largest})
    until = 100 if largest < 0 else min(largest, 100)
    assert [*(found or ())] == [i for i in range(until) if i % skip == 0]


@pytest.mark.parametrize(
    "plan", [FIXED, LOOKS, MajorityVote(), GroupSequential(tolerance=0.1, alpha=1e-300)]
)
def test_a_plan_from_its_text(plan: Plan) -> None:
    assert plan_of_text(str(plan)) == plan
    with pytest.raises(ValueError, match="is not known"):
        plan_of_text(f"{plan} ")
