"""Files for other people's code, loaded strictly into networks built as theirs: equal logits."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from published_modules import PublishedResNet, published_architecture, with_persistent_tables
from torch import Tensor, nn

from diffsmooth.cli import doctor, export
from diffsmooth.golden import FOLDER
from diffsmooth.models import build_classifier, build_unet, load_classifier
from diffsmooth.models.checkpoints.formats import read_checkpoint
from diffsmooth.models.checkpoints.plain_files import plain_content, position_tables
from diffsmooth.models.checkpoints.weights import Checkpoint, CheckpointMetadata, write_checkpoint
from diffsmooth.models.classifiers.dataset_info import CIFAR10, DatasetInfo, get_dataset_info
from diffsmooth.stats.errors import UserError

CIFAR_NUMBERS = "0.4914,0.4822,0.4465,0.2023,0.1994,0.2010"


def shaken(model: nn.Module) -> nn.Module:
    """The network with batch norms that have statistics of their own."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.3, 0.5)
            module.num_batches_tracked.fill_(7)
    return model.eval()


def imagenet32() -> DatasetInfo:
    return CIFAR10._replace(name="imagenet32", class_names=tuple(map(str, range(1000))))


def trained(
    folder: Path, arch: str, layer: str, info: DatasetInfo = CIFAR10, **changes: Any
) -> tuple[Path, nn.Module]:
    """A file as train.py would write it, and its network."""
    torch.manual_seed(3)
    model = shaken(build_classifier(arch, info.num_classes, layer, info))
    metadata = CheckpointMetadata(
        "classifier", info.name, arch, layer, list(info.image_shape), list(info.class_names),
        list(info.mean), list(info.std), sigma=0.25,
    )._replace(**changes)  # fmt: skip
    path = folder / "trained.pt"
    write_checkpoint(path, metadata, model.state_dict(), epoch=90)
    return path, model


def images(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(5))


def same_logits(one: nn.Module, other: nn.Module, x: Tensor) -> None:
    with torch.inference_mode():
        wanted = other.eval()(x)
        assert wanted.std() > 1e-3
        atol = 1e-4 * float(wanted.std())  # rounding, in another order
        torch.testing.assert_close(one.eval()(x), wanted, rtol=0, atol=atol)


PUBLISHED = [
    ("cifar_resnet20", "standard", "cifar10", "cifar_resnet20", ()),
    ("cifar_resnet20", CIFAR_NUMBERS, "cifar10", "cifar_resnet20", ()),
    ("cifar_resnet20", "center", "cifar10", "cifar_resnet20", ("--code", "smoothadv-center")),
    ("cifar_resnet110", "standard", "imagenet32", "imagenet32_resnet110", ()),
    ("resnet50", "standard", "imagenet", "resnet50", ()),
]


@pytest.mark.parametrize(("arch", "layer", "dataset", "theirs", "options"), PUBLISHED)
def test_the_published_code_loads_it_strictly_and_answers_alike(
    arch: str, layer: str, dataset: str, theirs: str, options: tuple[str, ...], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    info = imagenet32() if dataset == "imagenet32" else get_dataset_info(dataset)
    path, model = trained(tmp_path, arch, layer, info)
    out = tmp_path / "plain.pth.tar"
    export.main([str(path), str(out), "--plain", *options])
    content = torch.load(out, weights_only=True)
    assert set(content) == {"epoch", "arch", "state_dict"}
    assert (content["arch"], content["epoch"]) == (theirs, 90)
    published = published_architecture(theirs, dataset, centred=bool(options))
    published.load_state_dict(content["state_dict"], strict=True)
    side = 64 if arch == "resnet50" else 32
    same_logits(published, model, images(2, 3, side, side))
    assert all(
        value.dtype in (torch.float32, torch.int64) for value in content["state_dict"].values()
    )
    said, err = capsys.readouterr()
    assert err.startswith("diffsmooth export: note: plain, it does not say dataset, input_layer, ")
    assert len(err.splitlines()) == 1
    assert f"{theirs} of {dataset}" in said
    assert "Hadisalman/smoothing-adversarial" in said
    assert ("locuslab/smoothing" in said) == (not options and dataset != "imagenet32")
    # It is read here as the published one is.
    doctor.main([str(out)])
    assert f"all fit {arch}" in capsys.readouterr().out
    back = read_checkpoint(out)
    assert (back.family, back.metadata.arch) == (
        "Cohen et al., SmoothAdv, DiffSmooth or the like", arch,
    )  # fmt: skip
    again = load_classifier(out, input_layer=layer, dataset=info)
    same_logits(again, model, images(2, 3, 32, 32))


def test_torch_before_1_6_reads_it(tmp_path: Path) -> None:
    path, _ = trained(tmp_path, "cifar_resnet20", "standard")
    out = tmp_path / "plain.pth.tar"
    export.main([str(path), str(out), "--plain"])
    assert out.read_bytes()[:2] == b"\x80\x02"  # a pickle, where a zip begins with PK


def test_macers_code_loads_it(tmp_path: Path) -> None:
    path, model = trained(tmp_path, "cifar_resnet110", "none")
    out = tmp_path / "400.pth"
    export.main([str(path), str(out), "--plain", "--code", "macer"])
    content = torch.load(out, weights_only=True)
    assert set(content) == {"net", "epoch"}
    published = PublishedResNet(110, 10)
    published.load_state_dict(content["net"], strict=True)
    same_logits(published, model, images(2, 3, 32, 32))
    back = read_checkpoint(out)
    assert (back.family, back.metadata.input_layer) == ("MACER or the like", "")
    assert back.metadata.arch == "cifar_resnet110"
    assert back.epoch == 90


def beit(folder: Path) -> tuple[Path, CheckpointMetadata, dict[str, Tensor]]:
    info = get_dataset_info("imagenet")
    with torch.device("meta"):
        state = build_classifier("beit_large_patch16_224", 1000, "0.5,0.5", info).state_dict()
    metadata = CheckpointMetadata(
        "classifier", "imagenet", "beit_large_patch16_224", "0.5,0.5", [3, 224, 224],
        list(info.class_names), list(info.mean), list(info.std),
    )  # fmt: skip
    return folder / "beit.pt", metadata, state


def test_a_beit_has_the_tables_that_timm_stored_then(tmp_path: Path) -> None:
    path, metadata, state = beit(tmp_path)
    plain = plain_content(Checkpoint(path, "", metadata, state))
    assert plain.content["arch"] == "beit_large_patch16_224"
    weights = plain.content["state_dict"]
    assert len(weights) == len(state) + 24 == 415
    with torch.device("meta"):
        published = published_architecture("beit_large_patch16_224", "imagenet")
    published.load_state_dict(weights, strict=True, assign=True)
    # The tables are numbers already; the last rows are those of the class token.
    table = weights["1.blocks.23.attn.relative_position_index"]
    assert (table.shape, table.dtype) == ((197, 197), torch.int64)
    assert table[0, 0] == 731
    assert plain.said.startswith("for javyduck/DiffSmooth: ")


def test_the_tables_of_positions_by_hand_and_by_timm() -> None:
    # Two patches beside each other, and the class token: offsets -1, 0, 1, then the token's three.
    weights = {"a.relative_position_bias_table": torch.zeros(1 * 3 + 3, 4)}
    assert position_tables(weights, (1, 2))["a.relative_position_index"].tolist() == [
        [5, 3, 3], [4, 1, 0], [4, 2, 1],
    ]  # fmt: skip
    from timm.models.beit import Beit

    model = Beit(
        img_size=(48, 80), patch_size=16, embed_dim=16, depth=2, num_heads=2, num_classes=5,
        use_rel_pos_bias=True, init_values=0.1,
    )  # fmt: skip
    new = model.state_dict()
    old = with_persistent_tables(model).state_dict()
    tables = position_tables(new, (3, 5))
    assert len(tables) == 2
    assert old.keys() == new.keys() | tables.keys()
    for name, table in tables.items():
        assert torch.equal(table, old[name])
        assert table.dtype == old[name].dtype


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        export.main([str(argument) for argument in arguments])
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert len(said.strip().splitlines()) == 1
    assert not Path(str(arguments[1])).exists()
    return said


@pytest.mark.parametrize(
    ("arch", "layer", "options", "message"),
    [
        ("cifar_resnet20", "center", (), "behind input layer center, and cifar_resnet20 of "
         "locuslab/smoothing"),
        ("cifar_resnet20", "none", (), "would answer wrongly there"),
        ("cifar_resnet20", "0.5,0.5", (), "behind input layer 0.5,0.5"),
        ("cifar_resnet20", "standard", ("--code", "smoothadv-center"), "stands behind center"),
        ("cifar_resnet110", "standard", ("--code", "macer"), "stands behind none"),
        ("cifar_resnet20", "none", ("--code", "macer"), "knows no cifar_resnet20: known are "
         "cifar_resnet110"),
        ("cifar_resnet56", "standard", (), "knows no cifar_resnet56"),
        ("resnet18", "standard", (), "knows no resnet18"),
    ],
)  # fmt: skip
def test_what_would_load_wrongly_or_not_at_all_is_refused(
    arch: str, layer: str, options: tuple[str, ...], message: str, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    path, _ = trained(tmp_path, arch, layer)
    said = refused(capsys, path, tmp_path / "o.pt", "--plain", *options)
    assert message in said
    if layer == "center":
        assert "--code smoothadv-center writes for" in said


def test_other_constants_under_the_same_word_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    info = CIFAR10._replace(name="svhn", mean=(0.4377, 0.4438, 0.4728), std=(0.198, 0.201, 0.197))
    path, _ = trained(tmp_path, "cifar_resnet20", "standard", info)
    assert "input layer standard" in refused(capsys, path, tmp_path / "o.pt", "--plain")


@pytest.mark.parametrize(
    ("info", "message"),
    [
        (get_dataset_info("fashion_mnist"), "takes images of 1 x 32 x 32, and cifar_resnet20"),
        (CIFAR10._replace(image_shape=(3, 64, 64)), "takes images of 3 x 64 x 64"),
        (CIFAR10._replace(class_names=tuple("abcdefg")), "has 7 classes; cifar_resnet20"),
        (CIFAR10._replace(class_names=CIFAR10.class_names[::-1]), "classes are in another order"),
        (CIFAR10._replace(class_names=(*CIFAR10.class_names[:6], "horse", "frog", "ship", "lorry")),
         "label 6 is horse, there it is label 7"),
    ],
    ids=["channels", "size", "classes", "order", "order and another name"],
)  # fmt: skip
def test_other_images_or_classes_are_refused(
    info: DatasetInfo, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, _ = trained(tmp_path, "cifar_resnet20", "standard", info)
    assert message in refused(capsys, path, tmp_path / "o.pt", "--plain")


def order_of(arch: str, info: DatasetInfo, names: Sequence[str]) -> str:
    """What plain_content says to classes of these names, or raises."""
    with torch.device("meta"):
        state = build_classifier(arch, len(names), "standard", info).state_dict()
    metadata = CheckpointMetadata(
        "classifier", "own", arch, "standard", list(info.image_shape), list(names),
        list(info.mean), list(info.std),
    )  # fmt: skip
    return plain_content(Checkpoint(Path("own.pt"), "", metadata, state)).said


def test_imagenets_folders_must_be_in_their_order() -> None:
    from timm.data import ImageNetInfo

    folders, info = ImageNetInfo().label_names(), get_dataset_info("imagenet")
    assert folders == sorted(folders)
    order_of("resnet50", info, folders)
    order_of("resnet50", info, [f"a{n}" for n in range(1000)])
    with pytest.raises(UserError, match="label 0 is n15075141, there it is label 999"):
        order_of("resnet50", info, folders[::-1])


def test_imagenet32_is_numbered_otherwise_than_imagenet() -> None:
    # map_clsloc.txt of ILSVRC2012 begins n02119789 1 kit_fox, n02100735 2, n02110185 3; folders
    # sort n01440764, n01443537, ...
    from timm.data import ImageNetInfo

    folders = ImageNetInfo().label_names()
    for names in (folders, get_dataset_info("imagenet").class_names):
        with pytest.raises(UserError, match="which are n02119789, n02100735, n02110185"):
            order_of("cifar_resnet110", imagenet32(), names)
    first = ["n02119789", "n02100735", "n02110185"]
    order_of("cifar_resnet110", imagenet32(), [*first, *(n for n in folders if n not in first)])
    said = order_of("cifar_resnet110", imagenet32(), imagenet32().class_names)
    assert "there class k is ILSVRC2012_ID k + 1" in said


def test_a_file_that_does_not_say_its_images_is_measured_by_its_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "foreign.pth.tar"
    for classes, channels, message in ((7, 3, "has 7 classes"), (10, 1, "is (16, 1, 3, 3)")):
        info = CIFAR10._replace(image_shape=(channels, 32, 32), mean=(), std=())
        state = build_classifier("cifar_resnet20", classes, "none", info).state_dict()
        torch.save({"arch": "cifar_resnet20", "state_dict": state}, path)
        options = ("--plain", "--normalize", "standard")
        assert message in refused(capsys, path, tmp_path / "o.pt", *options)
        torch.save({"arch": "cifar_resnet20", "state_dict": {"fc.weight": torch.ones(())}}, path)
        assert "weights do not fit" in refused(capsys, path, tmp_path / "o.pt", *options)


def test_another_data_set_of_the_same_form_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    info = CIFAR10._replace(name="svhn", class_names=tuple("0123456789"))
    path, _ = trained(tmp_path, "cifar_resnet20", "standard", info)
    export.main([str(path), str(tmp_path / "o.pt"), "--plain"])
    assert "; it was trained on svhn" in capsys.readouterr().out


def test_a_file_that_does_not_say_its_input_layer_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = shaken(build_classifier("cifar_resnet20", 10)).state_dict()
    path, out = tmp_path / "checkpoint.pth.tar", tmp_path / "o.pth.tar"
    torch.save({"epoch": 90, "arch": "cifar_resnet20", "state_dict": state, "optimizer": {}}, path)
    said = refused(capsys, path, out, "--plain")
    assert "does not say its input layer: give it by --normalize" in said
    assert "stands behind standard" in refused(
        capsys, path, out, "--plain", "--normalize", "center"
    )
    export.main([str(path), str(out), "--plain", "--normalize", "standard"])
    content = torch.load(out, weights_only=True)
    assert content["state_dict"].keys() == state.keys()
    assert all(torch.equal(content["state_dict"][key], state[key]) for key in state)
    ours, _ = trained(tmp_path, "cifar_resnet20", "standard")
    said = refused(capsys, ours, tmp_path / "p.pt", "--plain", "--normalize", "center")
    assert "says that its input layer is standard" in said


def test_options_that_would_do_nothing_are_refused(
    unet_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, _ = trained(tmp_path, "cifar_resnet20", "standard")
    out = tmp_path / "o.pt"
    assert "--code is of --plain" in refused(capsys, path, out, "--code", "cohen")
    assert "--normalize is of --plain" in refused(capsys, path, out, "--normalize", "none")
    assert "--half is not of --plain" in refused(capsys, path, out, "--half", "--plain")
    assert "a U-Net" in refused(capsys, unet_file, out, "--plain", "--code", "cohen")
    assert "knows no code 'salman'" in refused(capsys, path, out, "--plain", "--code", "salman")


def test_half_precision_becomes_whole_again_and_counters_are_filled_in(tmp_path: Path) -> None:
    path, model = trained(tmp_path, "cifar_resnet20", "standard")
    content = torch.load(path, weights_only=True)
    content["state_dict"] = {
        key: value.half() if value.is_floating_point() else value
        for key, value in model.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    torch.save(content, path)
    out = tmp_path / "o.pth.tar"
    export.main([str(path), str(out), "--plain"])
    published = published_architecture("cifar_resnet20", "cifar10")
    published.load_state_dict(torch.load(out, weights_only=True)["state_dict"], strict=True)
    same_logits(published, load_classifier(path), images(2, 3, 32, 32))


@pytest.mark.parametrize(
    ("preset", "golden"),
    [("improved-cifar10", "unet_cifar10_improved_keys.tsv"),
     ("guided-imagenet", "unet_imagenet_guided_keys.tsv")],
)  # fmt: skip
def test_a_unet_has_openais_keys_and_shapes(preset: str, golden: str, tmp_path: Path) -> None:
    with torch.device("meta"):
        state = build_unet(preset).state_dict()
    metadata = CheckpointMetadata("unet", "cifar10", preset=preset, max_sigma=1.0)
    content = plain_content(Checkpoint(tmp_path / "u.pt", "", metadata, state)).content
    wanted = [line.split("\t") for line in (FOLDER / golden).read_text().splitlines()]
    assert [[key, "x".join(map(str, value.shape))] for key, value in content.items()] == wanted


@pytest.mark.parametrize(
    ("preset", "overrides", "message"),
    [
        ("improved-cifar10", {"num_heads": 2}, "another number of attention heads"),
        ("improved-cifar10", {"head_channels": 32}, "another number of attention heads"),
        ("guided-imagenet",
         {"image_size": 32, "model_channels": 128, "num_res_blocks": 3,
          "channel_mult": [1, 2, 2, 2], "attention_resolutions": [16, 8], "head_channels": None,
          "resblock_updown": False},
         "another noise schedule"),
    ],
)  # fmt: skip
def test_a_unet_that_would_be_taken_for_a_published_one_is_refused(
    preset: str, overrides: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with torch.device("meta"):
        state = build_unet(preset, **overrides).state_dict()
    metadata = CheckpointMetadata("unet", "cifar10", preset=preset, overrides=overrides)
    with pytest.raises(UserError, match=f"the shapes of improved-cifar10.* {message}"):
        plain_content(Checkpoint(tmp_path / "u.pt", "", metadata, state))


def test_half_precision_is_asked_for_and_its_rounding_said(
    unet_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "half.pt"
    export.main([str(unet_file), str(out), "--half"])
    assert "half precision: changes a weight by at most 0.0" in capsys.readouterr().out
    whole, half = read_checkpoint(unet_file), read_checkpoint(out)
    assert half.metadata == whole.metadata
    for key, value in whole.state_dict.items():
        assert half.state_dict[key].dtype == torch.float16
        assert torch.equal(half.state_dict[key], value.half())
    assert out.stat().st_size < 0.6 * unet_file.stat().st_size
    path, _ = trained(tmp_path, "cifar_resnet20", "standard")
    export.main([str(path), str(out), "--half"])
    assert read_checkpoint(out).state_dict["1.bn1.num_batches_tracked"] == 7
    content = torch.load(path, weights_only=True)
    content["state_dict"]["1.bn1.running_var"][3] = 70_000.0  # half precision ends at 65,504
    torch.save(content, path)
    out.unlink()
    assert "1.bn1.running_var" in refused(capsys, path, out, "--half")


@pytest.mark.parametrize("option", [(), ("--plain",)])
def test_a_part_of_a_larger_memory_is_written_without_the_rest(
    option: tuple[str, ...], tmp_path: Path
) -> None:
    path, model = trained(tmp_path, "cifar_resnet20", "standard")
    content = torch.load(path, weights_only=True)
    flat = torch.zeros(50, 64, 64)  # as weights and averages that lie in one memory
    flat[0, :10] = content["state_dict"]["1.fc.weight"]
    content["state_dict"]["1.fc.weight"] = flat[0, :10]
    torch.save(content, path)
    assert path.stat().st_size > 1.9e6
    out = tmp_path / "o.pt"
    export.main([str(path), str(out), *option])
    assert out.stat().st_size < 1.3e6
    assert torch.equal(read_checkpoint(out).state_dict["1.fc.weight"], model[1].fc.weight)
