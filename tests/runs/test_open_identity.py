"""The choices of a run that are open until they are made."""

from dataclasses import replace
from typing import Any

import pytest

from diffsmooth.runs.identity import RunIdentity

TOLD: dict[str, Any] = {
    "command": "certify", "dataset": "d", "split": "test", "data": "1", "size": 10, "content": "2",
    "image_shape": (1, 2, 2), "class_names": (), "skip": 3, "max": -1, "classifier": "3",
    "classifier_set": "", "diffusion": "4", "arch": "a", "purifier": "oneshot",
    "convention": "diffsmooth", "steps": 1, "runs": 1, "ties": "", "pad": "none", "sigma": 0.5,
    "m": 5, "sigma_local": 0.25, "seed": 0, "local_seed": 42, "plan": "p",
    "diffusion_set": "", "noise_source": "n", "hardware": "h", "torch": "t", "numpy": "u",
}  # fmt: skip
CHOICES: dict[str, Any] = {
    "input_layer": "standard", "threads": 2, "precision": "bf16",
    "compile": False, "batch": 7,
}  # fmt: skip
ASKED = RunIdentity(**TOLD)
CHOSEN = RunIdentity(**TOLD, **CHOICES)


def test_the_open_ones_are_the_choices_and_no_others() -> None:
    assert sorted(ASKED.still_open) == sorted(CHOICES)
    assert not CHOSEN.still_open
    with pytest.raises(TypeError):
        RunIdentity(**{name: TOLD[name] for name in TOLD if name != "sigma"})


@pytest.mark.parametrize("name", CHOICES)
def test_an_open_identity_is_not_stored(name: str) -> None:
    with pytest.raises(ValueError, match=f"not chosen yet: {name}$"):
        replace(CHOSEN, **{name: None}).stored()


def test_what_is_open_differs_from_nothing_and_takes_what_is_stored() -> None:
    stored = CHOSEN.stored()
    assert ASKED.difference(stored) == CHOSEN.difference(stored) == ""
    assert ASKED.adopting(stored) == CHOSEN
    told = replace(ASKED, threads=3)
    assert told.difference(stored) == "threads was 2, is 3"
    assert replace(ASKED, sigma=0.25).difference(stored) == "sigma was 0.5, is 0.25"
    assert replace(ASKED, compile=False).adopting(stored | {"compile": True}).compile is False


def test_the_stored_form_keeps_its_order() -> None:
    names = list(CHOSEN.stored())
    assert names[11:14] == ["classifier_set", "diffusion", "diffusion_set"]
    assert names[-8:] == [
        "threads", "precision", "compile", "noise_source", "hardware", "torch", "numpy", "numerics"
    ]  # fmt: skip
    assert RunIdentity.from_stored(CHOSEN.stored()).stored() == CHOSEN.stored()


def test_norms_of_our_own_are_stored_only_where_there_are_some() -> None:
    """A run of before they were goes on without them, whatever could compute them now."""
    asked, old = replace(CHOSEN, norms=None), CHOSEN.stored()
    assert "norms" not in old
    assert asked.difference(old) == ""
    assert asked.adopting(old).norms == ""
    stored = replace(CHOSEN, norms="triton 1").stored()
    assert stored == old | {"norms": "triton 1"}
    assert asked.adopting(stored).norms == "triton 1"
    assert RunIdentity.from_stored(stored).stored() == stored
    assert CHOSEN.difference(stored) == "norms was 'triton 1', is ''"


def test_how_kernels_are_chosen_is_stored_only_where_it_is_by_timing() -> None:
    old = CHOSEN.stored()
    assert "kernels" not in old
    timed = replace(CHOSEN, kernels="timed")
    assert timed.stored() == old | {"kernels": "timed"}
    assert timed.difference(old) == "kernels was 'fixed', is 'timed'"
    assert CHOSEN.difference(timed.stored()) == "kernels was 'timed', is 'fixed'"
    assert RunIdentity.from_stored(timed.stored()).stored() == timed.stored()
