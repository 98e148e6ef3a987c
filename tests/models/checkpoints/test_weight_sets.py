"""Files of the layouts that training codes write: the network that is read is the one written."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from diffsmooth.models import build_classifier, load_classifier
from diffsmooth.models.checkpoints.formats import read_checkpoint
from diffsmooth.models.checkpoints.key_names import WRAPPERS, unwrapped
from diffsmooth.models.checkpoints.weights import CheckpointMetadata
from diffsmooth.stats.errors import UserError


def network(seed: int) -> nn.Module:
    """A ResNet-8 whose batch norms are not those of a fresh one."""
    torch.manual_seed(seed)
    model = build_classifier("cifar_resnet8", 10, "none")[1]
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            value.copy_(torch.rand_like(value) * 0.1 + 0.5 * ("running_var" in name))
    return model.eval()


RAW, EMA = network(1), network(2)
IMAGES = torch.rand(3, 3, 32, 32)


def save(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def logits(path: Path, **options: Any) -> Tensor:
    with torch.inference_mode():
        return load_classifier(path, "cifar_resnet8", "none", **options)(IMAGES)


def expected(model: nn.Module) -> Tensor:
    with torch.inference_mode():
        return model(IMAGES)


def named(rename: Callable[[str], str], model: nn.Module = RAW) -> dict[str, Tensor]:
    return {rename(key): value for key, value in model.state_dict().items()}


@pytest.mark.parametrize(
    "rename",
    [
        lambda key: f"_orig_mod.{key}",
        lambda key: f"module._orig_mod.{key}",
        lambda key: f"_orig_mod.module.1.{key}",
        lambda key: f"1._orig_mod.{key}",
        lambda key: f"1.module._orig_mod.{key}",
        lambda key: f"model.{key}",
        lambda key: f"net._orig_mod.1.{key}",
        lambda key: f"model.module.net.{key}",
        lambda key: f"1.{key.replace('layer1.', 'layer1._orig_mod.').replace('fc.', 'fc.module.')}",
        lambda key: key.replace("layer1.0.", "layer1.0._checkpoint_wrapped_module."),
        lambda key: f"_fsdp_wrapped_module.{key}",
    ],
)  # fmt: skip
def test_wrappers_and_a_prefix_are_taken_off(rename: Callable[[str], str], tmp_path: Path) -> None:
    for content in (named(rename), {"state_dict": named(rename)}, {"model": named(rename)}):
        path = save(tmp_path / "c.pt", content)
        assert torch.equal(logits(path), expected(RAW))
        assert read_checkpoint(path).metadata.arch == "cifar_resnet8"


class _Residual(nn.Module):
    """As in timm's iFormer: a network of its own has a level called module."""

    def __init__(self) -> None:
        super().__init__()
        self.module = nn.Linear(2, 2)


def test_a_level_of_a_networks_own_that_is_called_as_a_wrapper_fits_all_the_same() -> None:
    from diffsmooth.models.checkpoints.weights import Checkpoint, load_weights

    own, other = nn.Sequential(_Residual()), nn.Sequential(_Residual())
    for wrapped in (own, nn.DataParallel(own)):
        checkpoint = Checkpoint(
            Path("x"), "", CheckpointMetadata("classifier"), wrapped.state_dict()
        )
        load_weights(other, checkpoint)
        assert torch.equal(other[0].module.weight, own[0].module.weight)


levels = st.sampled_from(["a", "b", "conv", "0", "1"])


@given(
    st.sets(st.lists(levels, min_size=1, max_size=4).map(tuple), min_size=1, max_size=8),
    st.lists(st.sampled_from(WRAPPERS), max_size=3),
    st.lists(levels, max_size=2).map(tuple),
)
def test_wrapping_any_part_of_any_network_leaves_the_names_as_they_were(
    names: set[tuple[str, ...]], wrappers: list[str], part: tuple[str, ...]
) -> None:
    leaves = {(*name, "weight") for name in names}  # a module of weights has a name of its own
    wrapped = {
        ".".join((*part, *wrappers, *leaf[len(part) :]) if leaf[: len(part)] == part else leaf):
        ".".join(leaf)
        for leaf in leaves
    }  # fmt: skip
    assert unwrapped(wrapped) == wrapped


def test_counters_that_old_torch_did_not_write(tmp_path: Path) -> None:
    old = {k: v for k, v in RAW.state_dict().items() if not k.endswith("num_batches_tracked")}
    assert torch.equal(logits(save(tmp_path / "c.pt", old)), expected(RAW))
    del old["bn1.running_mean"]
    with pytest.raises(UserError, match=r" bn1\.running_mean is missing"):
        logits(save(tmp_path / "c.pt", old))


def test_a_foreign_lightning_file_is_not_called_cohens(tmp_path: Path) -> None:
    content = {
        "epoch": 3, "global_step": 9, "pytorch-lightning_version": "2.6.6", "loops": {},
        "state_dict": named(lambda key: f"model.{key}"), "optimizer_states": [], "callbacks": {},
    }  # fmt: skip
    checkpoint = read_checkpoint(save(tmp_path / "c.ckpt", content))
    assert checkpoint.family == "PyTorch Lightning"
    assert checkpoint.epoch == 3
    assert "Cohen" not in read_checkpoint(save(tmp_path / "d", {"model": named(str)})).family


def averaged() -> AveragedModel:
    model = AveragedModel(copy.deepcopy(EMA), multi_avg_fn=get_ema_multi_avg_fn(0.9))
    model.update_parameters(EMA)
    return model


def lit_ema() -> dict[str, Tensor]:
    """As latent diffusion's code: no dots, no buffers."""
    parameters = {f"model_ema.{k.replace('.', '')}": v for k, v in EMA.named_parameters()}
    return {
        **named(lambda key: f"model.{key}"), **parameters,
        "model_ema.decay": torch.tensor(0.9), "model_ema.num_updates": torch.tensor(3),
    }  # fmt: skip


def parameters_only() -> dict[str, Tensor]:
    return {name: value.detach() for name, value in EMA.named_parameters()}


TWO_SETS = {
    "state_dict, state_dict_ema": lambda: {
        "state_dict": RAW.state_dict(), "state_dict_ema": EMA.state_dict(), "arch": "x"},
    "model, ema": lambda: {"model": RAW.state_dict(), "ema": EMA.state_dict(), "ema_decay": 0.9},
    "model, model_ema": lambda: {
        "model": RAW.state_dict(), "model_ema": named(lambda k: f"module.{k}", EMA),
        "optimizer": torch.optim.SGD(RAW.parameters(), 0.1, 0.9).state_dict()},
    "net, ema_net": lambda: {"net": RAW.state_dict(), "ema_net": EMA.state_dict(), "epoch": 1},
    "model_state_dict, ema_state_dict": lambda: {
        "model_state_dict": RAW.state_dict(), "ema_state_dict": {"shadow": EMA.state_dict()}},
    "swa_utils": lambda: {"model": RAW.state_dict(), "swa_model": averaged().state_dict()},
    "prefixes": lambda: {"state_dict": {
        **named(lambda k: f"model.{k}"), **named(lambda k: f"ema_model.module.{k}", EMA)}},
    "bare prefixes": lambda: {
        **named(lambda k: f"online_model.{k}"), **named(lambda k: f"ema_model.{k}", EMA),
        "step": torch.tensor(5), "initted": torch.tensor(True)},
    "ema-pytorch": lambda: {"step": 5, "model": RAW.state_dict(), "ema": {
        **named(lambda k: f"online_model.{k}"), **named(lambda k: f"ema_model.{k}", EMA),
        "step": torch.tensor(5), "initted": torch.tensor(True)}},
    "EMAWeightAveraging": lambda: {
        "state_dict": named(lambda k: f"model.{k}", EMA),
        "current_model_state": named(lambda k: f"model.{k}"),
        "averaging_state": {"n_averaged": torch.tensor(3)}, "pytorch-lightning_version": "2.6.6"},
    "model, modelEMA": lambda: {"model": RAW.state_dict(), "modelEMA": EMA.state_dict()},
    "model, ema below ema": lambda: {
        "model": RAW.state_dict(), "ema": {"state": {"module": EMA.state_dict()}, "decay": 0.9}},
    "a callback's": lambda: {
        "state_dict": named(lambda k: f"net.{k}"), "pytorch-lightning_version": "2.6.6",
        "callbacks": {"EMACallback": {"weights": named(lambda k: f"net.{k}", EMA)}}},
    "both below model": lambda: {
        "model": {"state_dict": RAW.state_dict(), "state_dict_ema": EMA.state_dict()}, "epoch": 1},
}  # fmt: skip


@pytest.mark.parametrize("layout", TWO_SETS)
def test_of_two_sets_the_averaged_one_is_taken_and_said(layout: str, tmp_path: Path) -> None:
    path = save(tmp_path / "c.pt", TWO_SETS[layout]())
    note = read_checkpoint(path).note
    assert "two sets of weights" in note
    assert "taken: averaged, --weights raw takes the other" in note
    assert torch.equal(logits(path), expected(EMA))
    assert torch.equal(logits(path, weights="ema"), expected(EMA))
    assert torch.equal(logits(path, weights="raw"), expected(RAW))
    keys = {read_checkpoint(path, weights=name).set_key for name in ("raw", "ema")}
    assert len(keys) == 2  # a run of one is never gone on with by the other
    assert "" in keys or "prefixes" in layout


@pytest.mark.parametrize("form", ["LitEma", "parameters"])
def test_averaged_parameters_go_with_the_statistics_beside_them(form: str, tmp_path: Path) -> None:
    content: Any = {"model": RAW.state_dict(), "ema": parameters_only()}
    path = save(tmp_path / "c.pt", content if form == "parameters" else {"state_dict": lit_ema()})
    truth = copy.deepcopy(RAW)
    truth.load_state_dict({**RAW.state_dict(), **parameters_only()})
    assert torch.equal(logits(path), expected(truth))
    assert torch.equal(logits(path, weights="raw"), expected(RAW))


def test_averaged_weights_alone(tmp_path: Path) -> None:
    for content in ({"ema": EMA.state_dict()}, averaged().state_dict()):
        path = save(tmp_path / "c.pt", content)
        assert torch.equal(logits(path), expected(EMA))
        assert "holds averaged weights" in read_checkpoint(path).note
        with pytest.raises(UserError, match="--weights raw, but it holds one set"):
            read_checkpoint(path, weights="raw")


@pytest.mark.parametrize(
    "content",
    [
        {"model": {"state_dict": RAW.state_dict()}, "epoch": 1},
        {"state_dict": {"model": {"module": named(lambda k: f"_orig_mod.{k}")}}},
        {"model": RAW.state_dict(), "exp_avg": parameters_only()},
        {"model": RAW.state_dict(), "optimizer": {"state": {"exp_avg": parameters_only()}}},
    ],
)
def test_weights_lie_at_any_depth_and_an_optimizers_state_is_none(
    content: dict[str, Any], tmp_path: Path
) -> None:
    path = save(tmp_path / "c.pt", content)
    assert torch.equal(logits(path), expected(RAW))
    assert read_checkpoint(path).note == ""


def test_one_set_has_no_other(tmp_path: Path) -> None:
    for content in (RAW.state_dict(), {"model": RAW.state_dict(), "ema": None}):
        path = save(tmp_path / "c.pt", content)
        assert read_checkpoint(path).note == ""
        for name in ("raw", "ema"):
            with pytest.raises(UserError, match=f"--weights {name}, but it holds one set"):
                read_checkpoint(path, weights=name)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"banana": RAW.state_dict(), "epoch": 3}, "its keys are banana, epoch"),
        ({"model": RAW.state_dict(), "net": EMA.state_dict()}, "several sets of weights, model, "),
        ({"model": RAW.state_dict(), "best": EMA.state_dict()}, "several .* model and best"),
        ({"model": RAW.state_dict(), "teacher": {"module": EMA.state_dict()}},
         r"several .* model and teacher\.module"),
        ({"model": RAW.state_dict(), "best": parameters_only()}, "several .* model and best"),
        ({"model": {"state_dict": RAW.state_dict()}, "best": {"state_dict": EMA.state_dict()}},
         r"several .* model and best\.state_dict"),
        ({"teacher": RAW.state_dict(), "student": EMA.state_dict()}, "keys are teacher, student"),
        ({"state_dict": {**named(lambda k: f"teacher.{k}"),
                         **named(lambda k: f"student.{k}", EMA)}}, "two networks, teacher and s"),
        ({"model": RAW.state_dict(), "ema_0.9": EMA.state_dict(), "ema_0.99": EMA.state_dict()},
         r"several sets of averaged weights, ema_0\.9, ema_0\.99"),
        ({"model": RAW.state_dict(), "ema": {"shadow_params": [torch.ones(2)]}},
         r"averaged weights \(ema\) in a form that we do not know: --weights raw"),
        ({"state_dict": {**RAW.state_dict(), "extra": [1]}}, "extra, which is no tensor but a l"),
    ],
)  # fmt: skip
def test_what_is_not_told_apart_is_refused(
    content: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = save(tmp_path / "c.pt", content)
    with pytest.raises(UserError, match=message):
        read_checkpoint(path)
    if "ema" in message:
        assert torch.equal(logits(path, weights="raw"), expected(RAW))


def test_our_own_lightning_files_hold_the_average_in_their_state_dict(tmp_path: Path) -> None:
    said = {"kind": "classifier", "arch": "cifar_resnet8", "input_layer": "none"}
    content = {
        "epoch": 3, "diffsmooth": said, "optimizer_states": [], "averaging_state": {},
        "state_dict": named(lambda key: f"classifier._orig_mod.1.{key}", EMA),
        "current_model_state": named(lambda key: f"classifier._orig_mod.1.{key}"),
    }  # fmt: skip
    path = save(tmp_path / "last.ckpt", content)
    assert torch.equal(logits(path), expected(EMA))
    assert torch.equal(logits(path, weights="raw"), expected(RAW))
    ema, raw = read_checkpoint(path), read_checkpoint(path, weights="raw")
    assert (ema.set_key, raw.set_key) == ("", "current_model_state")
    assert "taken: averaged, --weights raw takes the other" in ema.note
    del content["current_model_state"]
    save(path, content)
    assert read_checkpoint(path).note == ""
    with pytest.raises(UserError, match="--weights raw, but it holds one set"):
        read_checkpoint(path, weights="raw")
    with pytest.raises(UserError, match="weights must be raw or ema, got 'banana'"):
        read_checkpoint(path, weights="banana")  # type: ignore[arg-type]
