"""`certify` and `predict` from Python: the command's votes and files, and a process left alone."""

import functools
import json
import logging
import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import diffsmooth
from diffsmooth.cli import certify as command
from diffsmooth.cli import report
from diffsmooth.lit.data import load_images
from diffsmooth.models import build_unet
from diffsmooth.models.diffusion.openai import OpenAIDenoiser
from diffsmooth.models.diffusion.presets import get_preset
from diffsmooth.models.smoothing.noise import NoiseKey
from diffsmooth.models.smoothing.one_image import run_plan
from diffsmooth.runs.journal import read_journal
from diffsmooth.stats import ABSTAIN, FixedSampleSize, GroupSequential, Results
from diffsmooth.stats.errors import UserError

SHAPE = (1, 4, 4)
PLAN = FixedSampleSize(n0=8, n=30, alpha=0.01)
IMAGES = torch.rand(6, *SHAPE, generator=torch.Generator().manual_seed(0))
LABELS = [0, 1, 2, 0, 1, 2]


class Own(nn.Module):
    """A reader's network: three classes."""

    def __init__(self, seed: int = 3) -> None:
        super().__init__()
        self.linear = nn.Linear(16, 3)
        weight = torch.randn(3, 16, generator=torch.Generator().manual_seed(seed))
        self.linear.weight.data.copy_(weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.flatten(1) - 0.5)

    def register(self, value: float) -> "Own":
        """With a buffer that its state dict leaves out."""
        self.register_buffer("hidden", torch.tensor(value), persistent=False)
        return self


class Shift(nn.Module):
    """A denoiser, or a classifier's part, that says nothing of itself in its state."""

    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = by

    def forward(self, noisy: Tensor, sigma: float = 0.0) -> Tensor:
        return noisy + self.by


class Other(Own):
    """The same weights, by another name."""


def halve(x: Tensor) -> Tensor:
    flat = x.flatten(1) - 0.5
    return torch.stack([flat[:, :8].sum(1), flat[:, 8:].sum(1), 0 * flat[:, 0]], dim=1)


def smooth(classifier: Any = None, **more: Any) -> diffsmooth.SmoothedClassifier:
    options = {"num_classes": 3, "image_shape": SHAPE, "batch": 16, "precision": "float32"}
    return diffsmooth.SmoothedClassifier(classifier or Own(), **(options | more))


def certify(g: Any = None, images: Any = IMAGES, labels: Any = LABELS, **more: Any) -> Results:
    options = {"plan": PLAN, "progress": False, "noise": "float"} | more  # of images not of 8 bits
    return diffsmooth.certify(smooth() if g is None else g, images, labels, **options)


def certificates(path: Path) -> dict[int, object]:
    return {record.index: record.certificate for record in read_journal(path).records}


@pytest.mark.parametrize("purifier", ["oneshot", "none"])
def test_the_votes_are_the_commands(
    purifier: str,
    tmp_path: Path,
    classifier_file: Path,
    unet_file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = [
        "fashion_mnist_sample", str(classifier_file), "0.50", str(tmp_path / "command.txt"),
        "--local_noise_sd", "0.25", "--m", "2", "--N0", "8", "--N", "30", "--batch", "16",
        "--skip", "300", "--seed", "7", "--local_seed", "5", "--precision", "float32",
        "--diffusion", str(unet_file), "--logdir", str(tmp_path / "logs"), "--accelerator", "cpu",
        "--threads", "1", "--no_sanity_check", "--purifier", purifier,
    ]  # fmt: skip
    if purifier == "none":
        del words[words.index("--diffusion") : words.index("--logdir")]
    monkeypatch.setattr(sys, "argv", ["certify.py", *words])
    command.main()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    data = load_images("fashion_mnist_sample")
    indices = [0, 300, 600, 900]
    results = diffsmooth.certify(
        diffsmooth.SmoothedClassifier(
            diffsmooth.load_classifier(classifier_file),
            diffsmooth.load_denoiser(unet_file) if purifier == "oneshot" else None,
            sigma=0.5, m=2, sigma_local=0.25, image_shape=(1, 32, 32), batch=16,
            precision="float32", local_seed=5,
        ),
        torch.stack([data[index].image for index in indices]),
        data.labels[indices],
        indices=indices,
        dataset="fashion_mnist_sample",
        split="test",
        plan=FixedSampleSize(8, 30),
        seed=7,
        journal=tmp_path / "python",
        progress=False,
    )  # fmt: skip
    torch.set_num_threads(threads)
    assert certificates(tmp_path / "python.jsonl") == certificates(tmp_path / "command.jsonl")
    assert len({c.estimation_counts for c in certificates(tmp_path / "python.jsonl").values()}) > 1  # type: ignore[attr-defined]
    known = diffsmooth.read_results(tmp_path / "command.txt")
    assert results.index.tolist() == indices
    for name in ("label", "prediction", "radius", "p_lower", "votes"):
        np.testing.assert_array_equal(getattr(results, name), getattr(known, name))


def test_the_votes_are_those_of_each_image_alone_and_g_stays_as_it_was() -> None:
    g = smooth(m=2, sigma_local=0.1, sigma=0.25)
    before = {key: value.clone() for key, value in g.state_dict().items()}
    indices = [9, 4, 100, 2, 7, 3]
    results = certify(g, indices=indices, dataset="d", split="s", seed=5)
    assert results.index.tolist() == sorted(indices)
    for row, index in enumerate(sorted(indices)):
        place = indices.index(index)
        key = NoiseKey(5, "certify", "d", "s", index)
        alone = run_plan(g.f, IMAGES[place], key, PLAN)
        assert (results.prediction[row], results.p_lower[row]) == (alone.prediction, alone.p_lower)  # type: ignore[index]
        assert results.label[row] == LABELS[place]
    assert all(torch.equal(value, before[key]) for key, value in g.state_dict().items())
    noisy = IMAGES.clone().requires_grad_()
    g.f(noisy)[:, 0].sum().backward()  # prepared networks would not train
    assert noisy.grad is not None
    assert noisy.grad.any()
    assert all(parameter.grad is not None for parameter in g.parameters())


def test_predictions_come_in_the_order_of_the_images() -> None:
    images = torch.stack([torch.full(SHAPE, value) for value in (0.5, 1.0, 0.0)])
    g = smooth(lambda x: torch.stack([x.mean((1, 2, 3)) - 0.5, 0.5 - x.mean((1, 2, 3))], 1),
               num_classes=2, sigma=0.25)  # fmt: skip
    answers = diffsmooth.predict(g, images, n=100, indices=[5, 3, 1], noise="float", progress=False)
    assert (answers.dtype, answers.tolist()) == (np.dtype(np.int64), [ABSTAIN, 0, 1])


def test_without_labels_nothing_is_said_to_be_correct(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = certify(labels=None, journal=tmp_path / "o")
    assert "no labels" in repr(results)
    frame = results.to_frame()
    assert frame["label"].isna().all()
    assert frame["correct"].isna().all()
    for refuses in (
        lambda: diffsmooth.certified_accuracy(results, [0.0]),
        lambda: diffsmooth.average_certified_radius(results),
        lambda: diffsmooth.plot(results),
    ):
        with pytest.raises(UserError, match="there are no labels"):
            refuses()
    line = json.loads((tmp_path / "o.jsonl").read_text().splitlines()[0])
    assert line["label"] is None
    assert line["correct"] is None
    header, *rows = [row.split("\t") for row in (tmp_path / "o.txt").read_text().splitlines()]
    assert {(row[header.index("label")], row[header.index("correct")]) for row in rows} == {
        ("nan", "nan")
    }
    for ending in ("txt", "jsonl"):
        again = diffsmooth.read_results(tmp_path / f"o.{ending}")
        assert not again.is_labelled
        np.testing.assert_array_equal(again.prediction, results.prediction)
    (tmp_path / "o.jsonl").unlink()
    (tmp_path / "o.manifest.json").unlink()
    assert not diffsmooth.read_results(tmp_path / "o.txt").is_labelled  # the table alone
    with pytest.raises(SystemExit):
        report.main([str(tmp_path / "o.txt")], "report")
    assert "there are no labels" in capsys.readouterr().err
    with pytest.raises(UserError, match="by their labels, and there are none"):
        certify(labels=None, plan=GroupSequential(8, 30, 0.01, (0.1,), label_aware=True))


def test_a_report_reads_the_journal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = certify(journal=tmp_path / "o")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["o.jsonl", "o.manifest.json", "o.txt"]
    report.main([str(tmp_path / "o.jsonl")], "report")
    assert "Certified accuracy by radius" in capsys.readouterr().out
    assert repr(diffsmooth.read_results(tmp_path / "o.txt")) == repr(results)


class Interrupting(Own):
    """Somebody presses Ctrl-C in the midst of the votes."""

    passes = 0
    limit = 10**9

    def forward(self, x: Tensor) -> Tensor:
        Interrupting.passes += 1
        if Interrupting.passes == Interrupting.limit:
            signal.raise_signal(signal.SIGINT)
        return super().forward(x)


def test_ctrl_c_is_a_keyboard_interrupt_and_the_same_call_goes_on(tmp_path: Path) -> None:
    g = smooth(Interrupting())
    whole = certify(g, journal=tmp_path / "whole")
    handler = signal.getsignal(signal.SIGINT)
    Interrupting.passes, Interrupting.limit = 0, Interrupting.passes - 5
    with pytest.raises(KeyboardInterrupt):
        certify(g, journal=tmp_path / "o")
    assert signal.getsignal(signal.SIGINT) is handler
    (part,) = (tmp_path / "o.parts").glob("*.jsonl")
    done = certificates(part)
    assert 0 < len(done) < len(IMAGES)
    Interrupting.limit = 10**9
    again = certify(g, journal=tmp_path / "o")
    assert certificates(tmp_path / "o.jsonl") == certificates(tmp_path / "whole.jsonl")
    np.testing.assert_array_equal(again.radius, whole.radius)
    seconds = {r.index: r.seconds for r in read_journal(tmp_path / "o.jsonl").records}
    assert certify(g, journal=tmp_path / "o").seconds.tolist() == list(seconds.values())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda: {"g": smooth(Own(seed=4))}, "classifier was"),
        (lambda: {"g": smooth(Other())}, "classifier was"),
        (lambda: {"g": smooth(Own().register(2.0))}, "classifier was"),
        (lambda: {"g": smooth(denoiser=Shift(0.0))}, "diffusion was"),
        (lambda: {"g": smooth(sigma=0.25)}, "sigma was 0.5, is 0.25"),
        (lambda: {"g": smooth(m=2)}, "m was 1, is 2"),
        (lambda: {"g": smooth(local_seed=1)}, "local_seed was 42, is 1"),
        (lambda: {"images": IMAGES.flip(0)}, "data was"),
        (lambda: {"labels": None}, "data was"),
        (lambda: {"labels": LABELS[::-1]}, "data was"),
        (lambda: {"indices": [1, 2, 3, 4, 5, 6]}, "data was"),
        (lambda: {"seed": 1}, "seed was 0, is 1"),
        (lambda: {"plan": FixedSampleSize(8, 31, 0.01)}, "plan was"),
        (lambda: {"dataset": "other"}, "dataset was '', is 'other'"),
        (lambda: {"noise": "device"}, "noise_source was"),
    ],
)
def test_another_run_is_refused_by_what_differs(
    change: Callable[[], dict[str, Any]], said: str, tmp_path: Path
) -> None:
    certify(journal=tmp_path / "o")
    before = (tmp_path / "o.jsonl").read_bytes()
    with pytest.raises(UserError, match=f"belongs to a different run .{said}"):
        certify(journal=tmp_path / "o", **change())
    assert (tmp_path / "o.jsonl").read_bytes() == before


def test_a_function_of_the_same_name_is_known_by_what_it_computes(tmp_path: Path) -> None:
    certify(smooth(nn.Sequential(Shift(0.0), Own())), journal=tmp_path / "o")
    with pytest.raises(UserError, match="computed other numbers from the same batch"):
        certify(smooth(nn.Sequential(Shift(0.1), Own())), journal=tmp_path / "o")


@pytest.mark.parametrize(
    ("g", "what"),
    [
        (lambda: smooth(halve), "the classifier is a function"),
        (lambda: smooth(denoiser=lambda noisy, sigma: noisy), "the denoiser is a function"),
    ],
)
def test_what_holds_no_weights_has_no_journal(
    g: Callable[[], Any], what: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=f"journal: {what}, without weights"):
        certify(g(), journal=tmp_path / "o")
    assert not list(tmp_path.iterdir())
    assert len(certify(g())) == len(IMAGES)


def test_a_denoisers_convention_is_another_run(tmp_path: Path) -> None:
    unet = build_unet("small-gray32", channel_mult=(1,), num_res_blocks=1)
    schedule = get_preset("small-gray32").schedule
    small = {"image_shape": (1, 8, 8), "num_classes": 2}
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    images = torch.rand(2, 1, 8, 8)

    def run(convention: str) -> None:
        g = smooth(net, denoiser=OpenAIDenoiser(unet, schedule, convention), **small)
        certify(g, images, [0, 1], journal=tmp_path / "o")

    run("diffsmooth")
    run("diffsmooth")
    with pytest.raises(UserError, match="belongs to a different run"):
        run("carlini")


def test_indices_in_no_order_are_in_the_identity_and_others_are_not(tmp_path: Path) -> None:
    certify(indices=[5, 3, 40, 2, 9, 7], journal=tmp_path / "some")
    certify(journal=tmp_path / "all")
    some, every = (
        json.loads((tmp_path / f"{name}.manifest.json").read_text())["identity"]
        for name in ("some", "all")
    )
    assert some["indices"] == [2, 3, 5, 7, 9, 40]
    assert "indices" not in every
    assert diffsmooth.read_results(tmp_path / "some.txt").index.tolist() == some["indices"]
    lines = (tmp_path / "some.jsonl").read_text().splitlines()
    (tmp_path / "some.jsonl").write_text("\n".join(lines[:-1]) + "\n")
    with pytest.raises(UserError, match="1 of the 6 images"):
        diffsmooth.read_results(tmp_path / "some.jsonl")


def test_an_image_that_fails_is_told_and_counts_as_not_certified() -> None:
    class Moody(Own):
        def forward(self, x: Tensor) -> Tensor:
            bright = x.mean((1, 2, 3)) > 0.95
            return torch.where(bright[:, None], torch.nan, super().forward(x))

    images = IMAGES.clone()
    images[5] = 1.0
    with pytest.warns(
        UserWarning, match="1 of 6 images failed .* the first is image 5: NetworkErr"
    ):
        results = certify(smooth(Moody(), sigma=0.05), images)
    assert results.status is not None
    assert (results.status == "failed").tolist() == [False] * 5 + [True]
    assert results.radius[5] == 0.0


@pytest.mark.parametrize("thread", [False, True])
def test_the_process_is_left_as_it_was(thread: bool, recwarn: pytest.WarningsRecorder) -> None:
    def state() -> list[Any]:
        return [
            torch.get_rng_state().tolist(), random.getstate(),
            np.random.get_state()[1].tolist(),  # type: ignore[index] # noqa: NPY002
            torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(), torch.backends.cudnn.deterministic,
            torch.backends.cuda.matmul.allow_tf32, [*warnings.filters],
            logging.getLogger("lightning.pytorch").level, signal.getsignal(signal.SIGINT),
            signal.getsignal(signal.SIGTERM), dict(os.environ), [*sys.path],
        ]  # fmt: skip

    differences: list[int] = []

    def work() -> None:
        torch.set_default_dtype(torch.float64)
        threads = torch.get_num_threads()
        torch.set_num_threads(3)
        g = smooth(Own().float())
        before = state()
        certify(g)
        with pytest.raises(UserError):
            certify(smooth(lambda x: halve(x) + torch.randn(3)))  # f is random
        after = state()
        differences.extend(i for i in range(len(before)) if before[i] != after[i])
        torch.set_default_dtype(torch.float32)
        torch.set_num_threads(threads)

    if thread:
        worker = threading.Thread(target=work)
        worker.start()
        worker.join()
    else:
        work()
    assert differences == []
    assert not recwarn.list


def test_it_works_in_any_mode_and_the_modes_change_nothing() -> None:
    expected = certify().p_lower
    for mode in (torch.no_grad(), torch.inference_mode(), torch.device("meta")):
        g = smooth()
        with mode:
            np.testing.assert_array_equal(certify(g).p_lower, expected)


def test_a_lightning_module_that_trains_is_certified(tmp_path: Path) -> None:
    class Training(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.own = Own()
            self.seen: list[Results] = []

        def forward(self, x: Tensor) -> Tensor:
            return self.own(x)

        def training_step(self, batch: Tensor, index: int) -> Tensor:
            return self(batch).square().mean()

        def on_train_epoch_end(self) -> None:
            self.seen.append(certify(smooth(self)))

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), 0.1)

    module = Training()
    trainer = pl.Trainer(
        accelerator="cpu", devices=1, max_epochs=2, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of few workers
        trainer.fit(module, torch.utils.data.DataLoader(IMAGES, batch_size=2))  # type: ignore[arg-type]
    assert len(module.seen) == 2
    assert module.training
    assert module.trainer is trainer


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"plan": diffsmooth.stats.MajorityVote(10)}, "plan must be one that gives radii"),
        ({"noise": "pink"}, "noise must be auto, integer, float or device, got 'pink'"),
        ({"compile": "never"}, "compile must be true, false or auto, got 'never'"),
        ({"g": Own()}, "g must be a SmoothedClassifier, got a Own"),
        ({"journal": "o.jsonl"}, ".jsonl is the ending of journals"),
        ({"dataset": 5}, "dataset and split must be words"),
    ],
)
def test_mistakes(more: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        certify(**more)
    for n, alpha in ((0, 0.1), (10, 1.5)):
        with pytest.raises(UserError, match="must be"):
            diffsmooth.predict(smooth(), IMAGES, n=n, alpha=alpha)


def test_noise_that_is_not_exact_is_named() -> None:
    with pytest.warns(UserWarning, match="8 bits, which image 0 is not: floating-point noise"):
        results = certify(noise="auto")
    assert "floating-point noise" in repr(results)
    exact = certify(images=(IMAGES * 255).round() / 255, noise="auto")  # warnings are errors here
    assert "floating-point" not in repr(exact)


def in_closure(network: nn.Module) -> Callable[[Tensor], Tensor]:
    return lambda x: network(x)


class Slots:
    __slots__ = ("network",)

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def __call__(self, x: Tensor) -> Tensor:
        return self.network(x)


class Holder:
    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def __call__(self, x: Tensor) -> Tensor:
        return self.network(x)


GLOBAL = nn.Sequential(nn.BatchNorm2d(1), Own())
NORMS = nn.Sequential(nn.BatchNorm2d(1))
head = nn.Sequential(nn.BatchNorm2d(1))
OWN = Own()
plain = nn.Softmax(dim=1)


def by_another(x: Tensor) -> Tensor:
    return GLOBAL(x)


@pytest.mark.parametrize(
    "function",
    [
        in_closure,
        Holder,
        lambda network: network.forward,
        lambda network: Holder(network).__call__,
        lambda network: lambda x, net=network: net(x),
        lambda network: functools.partial(lambda net, x: net(x), network),
        lambda network: functools.partial(lambda x, net: net(x), net=network),
        lambda network: lambda x: GLOBAL(x),
        lambda network: lambda x: by_another(x),
        lambda network: functools.partial(by_another),
        lambda network: Slots(network),
        lambda network: lambda x, nets=(network,): nets[0](x),
    ],
)
def test_a_function_of_a_network_in_train_mode_is_refused_and_changes_nothing(
    function: Callable[[nn.Module], Any],
) -> None:
    """It is not copied: its batch norms would take in what the checks show it."""
    network = GLOBAL.train()
    before = network[0].running_var.clone()
    with pytest.raises(UserError, match="classifier: the function calls a Sequential that is in"):
        smooth(function(network))
    network.eval()
    expected = certify(smooth(network)).p_lower
    np.testing.assert_array_equal(certify(smooth(function(network))).p_lower, expected)
    assert torch.equal(network[0].running_var, before)
    with pytest.raises(UserError, match="denoiser: the function calls a Sequential that is in"):
        smooth(denoiser=lambda noisy, sigma: NORMS(noisy))


def test_functions_of_what_has_no_batch_norms_of_its_own_are_taken() -> None:
    """In train mode or not: modules without a mode, and names of attributes alone."""
    expected = certify(smooth(OWN)).p_lower
    assert OWN.training and head.training and plain.training  # noqa: PT018
    holder = Holder(OWN)
    holder.head = OWN  # type: ignore[attr-defined]
    for function in (
        lambda x: OWN(x),
        lambda x: holder.head(x),  # type: ignore[attr-defined]  # not the module of that name here
        lambda x: OWN(x) + 0 * plain(OWN(x)),
    ):
        np.testing.assert_array_equal(certify(smooth(function)).p_lower, expected)
    frozen = torch.jit.freeze(torch.jit.script(Own().eval()))
    np.testing.assert_array_equal(certify(smooth(lambda x: frozen(x))).p_lower, expected)


@pytest.mark.parametrize("kind", [ValueError, TypeError, AssertionError, IndexError, RuntimeError])
def test_errors_of_a_network_are_its_users(kind: type[Exception]) -> None:
    def refuse(x: Tensor) -> Tensor:
        raise kind("Input height (4) doesn't match model (224)")

    with pytest.raises(UserError, match=r"do not run on noisy images: Input height \(4\)"):
        certify(smooth(refuse))


def test_a_network_that_cannot_be_copied_says_what_to_do() -> None:
    network = Own()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated
        nn.utils.weight_norm(network.linear)
    network(IMAGES)
    for copy in (True, False):
        with pytest.raises(UserError, match=r"cannot be copied: .*torch.nn.utils.parametrizations"):
            certify(smooth(network, copy=copy))


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's memory")
def test_freed_memory_goes_back_to_the_system_afterwards() -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    certify()
    large = torch.zeros(100 * 2**18) + 1  # 100 MiB, each page touched
    there = resident()
    del large
    assert there - resident() > 90 * 2**20


@pytest.mark.parametrize("name", ["double", "half", "bfloat16"])
def test_networks_of_another_number_format_are_told_what_to_do(name: str) -> None:
    network = getattr(smooth().f.local_smoothing.classifier.network, name)()
    kind = str(getattr(torch, {"double": "float64", "half": "float16"}.get(name, name)))
    with pytest.raises(UserError, match=rf"weights are {kind}, .* make them so by \.float\(\)"):
        certify(smooth(network))
