"""The self-test on this CPU, where it must agree, and on a GPU where there is one."""

from dataclasses import replace

import pytest
import torch

from diffsmooth.cli import doctor
from diffsmooth.models.smoothing.precision import resolve_precision
from diffsmooth.pipeline import self_test
from diffsmooth.pipeline.self_test import Agreement
from diffsmooth.runs.line import from_line
from diffsmooth.stats import ImageRecord


@pytest.mark.slow
@pytest.mark.parametrize(("accelerator", "precision"), [
    ("cpu", "float32"),
    pytest.param("cpu", "bf16", marks=pytest.mark.skipif(
        resolve_precision("auto", "cpu") != "bf16", reason="emulated here: minutes")),
    pytest.param("gpu", "float32", marks=pytest.mark.gpu),
    pytest.param("gpu", "bf16", marks=pytest.mark.gpu),
])  # fmt: skip
def test_this_device_agrees(
    accelerator: str, precision: str, capsys: pytest.CaptureFixture[str]
) -> None:
    doctor.main(["--self-test", "--accelerator", accelerator, "--precision", precision])
    out = capsys.readouterr().out
    assert out.count("\nagrees ") == 14
    assert "DIFFERS" not in out
    assert "all agree" in out


@pytest.mark.slow
def test_what_differs_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fill = self_test.fill

    def scaled(state_dict: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {
            key: value * 1.01 if value.ndim > 1 else value
            for key, value in fill(state_dict).items()
        }

    def of_other_votes(line: str) -> ImageRecord:
        record = from_line(line)
        counts = ((0, 90), (1, 10))
        return replace(record, certificate=replace(record.certificate, selection_counts=counts))

    monkeypatch.setattr(self_test, "fill", scaled)
    monkeypatch.setattr(self_test, "from_line", of_other_votes)
    with pytest.raises(SystemExit) as stopped:
        doctor.main(["--self-test", "--accelerator", "cpu", "--precision", "float32"])
    assert stopped.value.code == 1
    out = capsys.readouterr().out
    assert out.count("\nDIFFERS") == 13
    assert "13 results DIFFER" in out


def test_not_a_number_never_agrees() -> None:
    assert not Agreement("", float("nan"), 1.0).agrees
