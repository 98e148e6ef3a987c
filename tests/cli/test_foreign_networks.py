"""Networks of other people, named on the command line: of a package, a folder, a whole file."""

import hashlib
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from diffsmooth.cli import certify, doctor, visualize
from diffsmooth.models import load_classifier
from diffsmooth.models.checkpoints.denoisers import _made
from diffsmooth.models.checkpoints.formats import read_checkpoint
from diffsmooth.models.checkpoints.sources import _builder, read_classifier
from diffsmooth.models.checkpoints.weights import CheckpointMetadata, write_checkpoint
from diffsmooth.runs.journal import read_journal
from diffsmooth.stats.errors import UserError

PACKAGE = """
import torch
from torch import nn

from diffsmooth.models import Denoiser
from diffsmooth.models.smoothing.purifier_kinds import PurifierKind
from diffsmooth.models.smoothing.purifiers import Purifier


def as_it_is():
    return lambda noisy, sigma: noisy


class Shared(Denoiser):
    max_sigma = 0.75
    image_shape = (1, 32, 32)

    def __init__(self, share=0.5):
        super().__init__()
        self.share = nn.Parameter(torch.tensor(share))

    def forward(self, noisy, sigma):
        return self.share * noisy


class Wide(Shared):
    image_shape = (3, 32, 32)


class Mine(Purifier):
    def __init__(self, denoiser=None, steps=1):
        super().__init__()
        self.denoiser, self.steps = denoiser, steps

    def forward(self, noisy, sigma, draws=None):
        return noisy


def network(classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(1024, classes))


class Whole(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(1024, 10))
        nn.init.zeros_(self[1].weight)
        self[1].bias.data = torch.arange(10.0)


class Output:
    def __init__(self, logits):
        self.logits = logits


class Wrapped(Whole):
    def forward(self, x):
        return Output(super().forward(x))


def drawn(number_of_classes, seed=None):
    return nn.Sequential(nn.Flatten(), nn.Linear(1024, number_of_classes))


made = []


class Weighted(Purifier):
    reverse_runs = 1

    def __init__(self, denoiser, share=0.5):
        super().__init__()
        made.append(share)
        self.share = nn.Parameter(torch.tensor(share))

    def forward(self, noisy, sigma, draws=None):
        return self.share * noisy


several = PurifierKind(Mine, denoiser=False, steps=4)
number = 3


def nothing(denoiser):
    return None


def direct(noisy, sigma):
    return noisy


def by_default(num_classes=1000):
    return network(num_classes)


def bare():
    return Whole()


instance = Whole()


def answering(x):
    return instance(x)
"""

Call = Callable[..., list[tuple[int, tuple[tuple[int, int], ...]]]]


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stranger_package.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "stranger_package", raising=False)
    _made.cache_clear()
    _builder.cache_clear()


@pytest.fixture
def votes(classifier_file: Path, tmp_path: Path) -> Call:
    """Certifies two images; the estimation votes of each."""

    def call(name: str, *options: str) -> list[tuple[int, tuple[tuple[int, int], ...]]]:
        certify.main([
            "fashion_mnist_sample", str(classifier_file), "0.5", str(tmp_path / name),
            "--skip", "400", "--N0", "4", "--N", "12", "--batch", "8", "--m", "2",
            "--local_noise_sd", "0.25", "--logdir", str(tmp_path / "logs"),
            "--accelerator", "cpu", "--threads", "1", "--no_sanity_check", *options,
        ])  # fmt: skip
        records = read_journal(tmp_path / f"{name}.jsonl").records
        return [(r.index, r.certificate.estimation_counts) for r in records]

    return call


def identity(path: Path) -> dict[str, object]:
    return dict(json.loads(path.read_text())["identity"])


def test_a_function_that_changes_nothing_votes_as_no_purifier_does(
    votes: Call, tmp_path: Path
) -> None:
    word = "stranger_package:as_it_is"
    assert votes("theirs", "--diffusion", word) == votes("none", "--purifier", "none")
    theirs = identity(tmp_path / "theirs.manifest.json")
    assert theirs["diffusion"] == hashlib.sha256(word.encode()).hexdigest()
    assert (theirs["purifier"], theirs["convention"], theirs["steps"]) == ("oneshot", "", 1)


def test_a_denoisers_weights_are_part_of_the_identity(
    votes: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    word = "stranger_package:Shared"
    first = votes("o", "--diffusion", word)
    assert votes("o", "--diffusion", word) == first  # it is finished, and the same
    package = tmp_path / "stranger_package.py"
    package.write_text(PACKAGE.replace("share=0.5", "share=0.25"))
    del sys.modules["stranger_package"]
    _made.cache_clear()  # as in another process
    with pytest.raises(SystemExit):
        votes("o", "--diffusion", word)
    assert "belongs to a different run (diffusion" in capsys.readouterr().err


def test_a_purifier_of_ones_own(votes: Call, tmp_path: Path) -> None:
    plain = votes("none", "--purifier", "none")
    word, diffusion = "stranger_package:Mine", "stranger_package:Shared"
    assert votes("mine", "--purifier", word, "--diffusion", diffusion) == plain
    assert votes("several", "--purifier", "stranger_package:several", "--steps", "3") == plain
    assert identity(tmp_path / "mine.manifest.json")["purifier"] == word
    several = identity(tmp_path / "several.manifest.json")
    assert (several["steps"], several["diffusion"]) == (3, "")


@pytest.mark.parametrize(
    ("before", "after", "field"),
    [
        ("share=0.5", "share=0.25", "diffusion"),
        ("reverse_runs = 1", "reverse_runs = 1 + 1", "runs"),
    ],
)
def test_a_purifiers_weights_and_runs_are_part_of_the_identity(
    votes: Call,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    before: str,
    after: str,
    field: str,
) -> None:
    words = ["--purifier", "stranger_package:Weighted", "--diffusion", "stranger_package:as_it_is"]
    first = votes("o", *words)
    assert votes("o", *words) == first  # it is finished, and the same
    changed = PACKAGE.partition("class Weighted")
    (tmp_path / "stranger_package.py").write_text(
        changed[0] + changed[1] + changed[2].replace(before, after)
    )
    del sys.modules["stranger_package"]
    _made.cache_clear()  # as in another process
    with pytest.raises(SystemExit):
        votes("o", *words)
    assert f"belongs to a different run ({field} was" in capsys.readouterr().err


def test_the_purifier_that_is_identified_is_the_one_that_votes(votes: Call) -> None:
    votes("o", "--purifier", "stranger_package:Weighted", "--diffusion", "stranger_package:Shared")
    assert sys.modules["stranger_package"].made == [0.5]


def test_pictures_are_purified_by_it(tmp_path: Path) -> None:
    visualize.main([
        "fashion_mnist_sample", str(tmp_path / "grid.png"), "--sigma", "0.5",
        "--diffusion", "stranger_package:Shared", "--accelerator", "cpu",
    ])  # fmt: skip
    assert (tmp_path / "grid.png").is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--diffusion", "stranger_package:absent"], "stranger_package has no absent"),
        (["--diffusion", "no_such_package:f"], "there is no module no_such_package"),
        (["--diffusion", "stranger_package:number"], "that gives the denoiser; got 3"),
        (
            ["--diffusion", "stranger_package:direct"],
            "must be a function, called with nothing, that gives the denoiser; this one: missing a",
        ),
        (["--diffusion", "stranger_package:Wide"], "takes images of 3 x 32 x 32, not 1 x 32 x 32"),
        (
            ["--diffusion", "stranger_package:Shared", "--sigma", "1"],
            "the largest possible is 0.75",
        ),
        (
            ["--diffusion", "stranger_package:Shared", "--pad", "reflect"],
            "pad is of a checkpoint's",
        ),
        (
            ["--diffusion", "stranger_package:Shared", "--convention", "carlini"],
            "convention is of a checkpoint's U-Net",
        ),
        (
            ["--diffusion", "stranger_package:Shared", "--purifier", "multistep"],
            "several steps need a denoiser with timesteps",
        ),
        (["--purifier", "stranger_package:absent"], "stranger_package has no absent"),
        (["--purifier", "stranger_package:number"], "that gives the purifier; got 3"),
        (["--purifier", "stranger_package:direct"], "called with the denoiser, that gives the"),
        (
            ["--purifier", "stranger_package:nothing", "--diffusion", "stranger_package:as_it_is"],
            "factory must give a Purifier",
        ),
        (["--purifier", "stranger_package:Mine", "--steps", "3"], "steps is of purifier multistep"),
    ],
)
def test_mistakes_are_named(
    votes: Call, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as exit_:
        votes("o", *options)
    assert exit_.value.code == 2
    assert message in capsys.readouterr().err


def test_a_factory_of_an_architecture_need_not_take_the_number_of_classes(tmp_path: Path) -> None:
    from diffsmooth.models import build_classifier
    from diffsmooth.models.classifiers.dataset_info import FASHION_MNIST

    network = build_classifier("stranger_package:bare", 10, "none", FASHION_MNIST)
    assert network(torch.zeros(2, 1, 32, 32)).argmax(dim=1).tolist() == [9, 9]


def test_a_factory_of_an_architecture_is_told_the_number_of_classes_where_it_has_a_default() -> (
    None
):
    from diffsmooth.models import build_classifier
    from diffsmooth.models.classifiers.dataset_info import FASHION_MNIST

    network = build_classifier("stranger_package:by_default", 10, "none", FASHION_MNIST)
    assert network(torch.zeros(2, 1, 32, 32)).shape == (2, 10)


def test_an_architecture_of_ones_own_votes_as_its_module_does(
    votes: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = nn.Sequential(nn.Flatten(), nn.Linear(1024, 10))
    nn.init.zeros_(own[1].weight)
    own[1].bias.data = torch.arange(10.0)
    torch.save(own.state_dict(), tmp_path / "own.pt")
    words = ["--purifier", "none", "--normalize", "none", "--classifier", str(tmp_path / "own.pt")]
    found = votes("own", *words, "--arch", "stranger_package:network")
    assert found == [(0, ((9, 12),)), (400, ((9, 12),)), (800, ((9, 12),))]
    with pytest.raises(SystemExit):
        votes("none", *words, "--arch", "stranger_package:nothing_like_it")
    assert "stranger_package has no nothing_like_it" in capsys.readouterr().err


ALL_FOR_NINE = [(0, ((9, 12),)), (400, ((9, 12),)), (800, ((9, 12),))]


def test_a_classifier_of_ones_own_takes_images_and_may_have_a_file_of_weights(
    votes: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--purifier", "none", "--classifier"]
    for factory in ("Whole", "Wrapped"):
        assert votes(factory, *words, f"stranger_package:{factory}") == ALL_FOR_NINE
        said = identity(tmp_path / f"{factory}.manifest.json")
        assert (said["input_layer"], said["arch"]) == ("none", f"stranger_package:{factory}")
        assert votes(factory, *words, f"stranger_package:{factory}") == ALL_FOR_NINE  # resumed
    weights = {"1.weight": torch.zeros(10, 1024), "1.bias": -torch.arange(10.0)}
    torch.save(weights, tmp_path / "w.pt")
    file = ["--weights", str(tmp_path / "w.pt")]
    for factory in ("Whole", "network"):
        found = votes(f"{factory}0", *words, f"stranger_package:{factory}", *file)
        assert found == [(0, ((0, 12),)), (400, ((0, 12),)), (800, ((0, 12),))]
    torch.save({**weights, "1.bias": torch.arange(10.0)}, tmp_path / "w.pt")
    with pytest.raises(SystemExit):
        votes("Whole0", *words, "stranger_package:Whole", *file)
    assert "belongs to a different run (classifier" in capsys.readouterr().err


def test_a_layer_that_a_fields_file_has_by_its_form_does_not_stand_in_front_of_code(
    tmp_path: Path,
) -> None:
    """DiffSmooth's own BEiT normalises within; its file's name of the architecture says 0.5."""
    weights = {"1.1.weight": torch.zeros(10, 1024), "1.1.bias": torch.zeros(10)}
    file = tmp_path / "w.pth.tar"
    torch.save({"arch": "beit_large_patch16_224", "state_dict": weights}, file)
    read = read_classifier("stranger_package:network", str(file))
    assert read.metadata.input_layer == "none"
    told = CheckpointMetadata("classifier", arch="cifar_resnet8", input_layer="center")
    write_checkpoint(file, told, weights)  # ours state it
    assert read_classifier("stranger_package:network", str(file)).metadata.input_layer == "center"


def test_a_file_of_weights_identifies_a_network_that_is_drawn_anew(
    votes: Call, tmp_path: Path
) -> None:
    torch.save(nn.Sequential(nn.Flatten(), nn.Linear(1024, 10)).state_dict(), tmp_path / "w.pt")
    words = ["--purifier", "none", "--classifier", "stranger_package:drawn"]
    words += ["--weights", str(tmp_path / "w.pt")]
    first = votes("o", *words)
    _builder.cache_clear()  # as in another process
    assert votes("o", *words) == first


@pytest.mark.filterwarnings("ignore:.*loading runs whatever code")
def test_a_whole_module_is_no_file_of_weights(
    votes: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import stranger_package

    torch.save(stranger_package.Whole(), tmp_path / "whole.pt")
    with pytest.raises(SystemExit):
        votes(
            "o", "--purifier", "none", "--classifier", "stranger_package:drawn", "--weights",
            str(tmp_path / "whole.pt"), "--unsafe_load",
        )  # fmt: skip
    assert "holds a whole module" in capsys.readouterr().err


def test_weights_that_are_drawn_anew_are_another_network(
    votes: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--purifier", "none", "--classifier", "stranger_package:drawn"]
    votes("o", *words)
    _builder.cache_clear()  # as in another process
    with pytest.raises(SystemExit):
        votes("o", *words)
    assert "belongs to a different run (classifier" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--classifier", "stranger_package:absent"], "stranger_package has no absent"),
        (["--classifier", "stranger_package:number"], "that gives the network; got 3"),
        (["--classifier", "stranger_package:direct"], "that gives the network; this one: missing"),
        (["--classifier", "stranger_package:Output"], "must give an nn.Module"),
        (
            ["--classifier", "stranger_package:instance"],
            "is a network (Whole), not a function that",
        ),
        (["--classifier", "stranger_package:answering"], "called with 10, the number of classes,"),
        (["--classifier", "stranger_package:Whole", "--weights", "ema"], "weights must be a file"),
        (["--classifier", "stranger_package:Whole", "--weights", "no.pt"], "no such checkpoint"),
        (["--weights", "w.pt"], "weights must be raw or ema"),
    ],
)
def test_mistakes_about_classifiers_are_named(
    votes: Call, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as exit_:
        votes("o", "--purifier", "none", *options)
    assert exit_.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:.*loading runs whatever code")
def test_whole_modules_and_exported_programs_are_taken_by_unsafe_loading_alone(
    votes: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import stranger_package

    whole = stranger_package.Whole().eval()
    torch.save(whole, tmp_path / "whole.pt")
    batch = torch.export.Dim("batch", min=1, max=10_000)
    program = torch.export.export(whole, (torch.rand(2, 1, 32, 32),), dynamic_shapes=({0: batch},))
    torch.export.save(program, tmp_path / "program.pt2")
    torch.save(nn.DataParallel(whole), tmp_path / "parallel.pt")
    for name in ("whole.pt", "parallel.pt", "program.pt2"):
        words = ["--purifier", "none", "--classifier", str(tmp_path / name)]
        with pytest.raises(SystemExit):
            votes(f"of {name}", *words)
        assert "--unsafe_load" in capsys.readouterr().err
        assert votes(f"of {name}", *words, "--unsafe_load") == ALL_FOR_NINE


def test_folders_of_transformers_and_diffusers(
    votes: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    transformers, diffusers = map(pytest.importorskip, ("transformers", "diffusers"))
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        image_size=32, patch_size=8, num_channels=1, num_labels=10, initializer_range=1.0,
    )  # fmt: skip
    vit = transformers.ViTForImageClassification(config)
    vit.save_pretrained(tmp_path / "vit")
    transformers.ViTImageProcessor(
        size={"height": 32, "width": 32}, image_mean=0.5, image_std=0.25
    ).save_pretrained(tmp_path / "vit")
    unet = diffusers.UNet2DModel(
        sample_size=32, in_channels=1, out_channels=1, block_out_channels=(8, 8),
        norm_num_groups=4, layers_per_block=1, down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2,
    )  # fmt: skip
    diffusers.DDPMPipeline(unet, diffusers.DDPMScheduler()).save_pretrained(tmp_path / "ddpm")
    words = ["--classifier", str(tmp_path / "vit"), "--diffusion", str(tmp_path / "ddpm")]
    first = votes("o", *words)
    assert len({counts for _, counts in first}) > 1
    said = identity(tmp_path / "o.manifest.json")
    assert (said["input_layer"], said["convention"]) == ("0.5,0.25", "diffsmooth")
    several = votes("several", *words, "--purifier", "multistep", "--steps", "3")
    assert len(several) == 3
    doctor.main([str(tmp_path / "vit"), str(tmp_path / "ddpm"), "--accelerator", "cpu"])
    out = capsys.readouterr().out
    assert "a diffusers" in out
    assert "Hugging Face transformers" in out
    vit.classifier.bias.data += 1
    vit.save_pretrained(tmp_path / "vit")
    with pytest.raises(SystemExit):
        votes("o", *words)
    assert "belongs to a different run (classifier" in capsys.readouterr().err


def doctor_says(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    try:
        doctor.main([*words, "--accelerator", "cpu"])
    except SystemExit:
        return capsys.readouterr().err
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "gives", "taken"),
    [
        ("Whole", "gives        Whole: 2 tensors, 10,250 numbers\n", "takes it as the classifier"),
        ("network", "gives        Sequential: 2 tensors, 10,250 numbers, made for 10 classes",
         "takes it as the classifier"),
        ("Shared", "gives        Shared: 1 tensor, 1 number", "takes it as --diffusion"),
        ("as_it_is", "gives        function\n", "takes it as --diffusion: (noisy, sigma) to"),
        ("Mine", "gives        a purifier", "takes it as --purifier"),
    ],
)  # fmt: skip
def test_the_doctor_says_what_code_gives_and_how_it_is_taken(
    name: str, gives: str, taken: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said = doctor_says(capsys, f"stranger_package:{name}")
    assert gives in said
    assert f"  certify      {taken}" in said


@pytest.mark.parametrize(
    ("name", "message"),
    [("Output", "gives Output, neither an nn.Module"), ("number", "that gives the network; got 3"),
     ("direct", "called with the number of classes or nothing, that gives the network"),
     ("instance", "is a network (Whole), not a function that gives one")],
)  # fmt: skip
def test_the_doctor_says_why_code_is_not_taken(
    name: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in doctor_says(capsys, f"stranger_package:{name}")


WHOLE = """
from torch import nn

class Whole(nn.Module):
    def __init__(self):
        super().__init__()
        self.last = nn.Linear(12, 2)

    def forward(self, x):
        return self.last(x.flatten(1))
"""
SAVE = "import torch, {module}; torch.save({module}.Whole(), 'whole.pt')"
SCRIPT = "import sys; sys.path.remove(''); from diffsmooth.cli.main import main; main()"


def test_a_whole_modules_code_may_lie_in_the_current_folder(tmp_path: Path) -> None:
    def python(code: str, *words: str) -> subprocess.CompletedProcess[str]:
        there = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        command = [sys.executable, "-c", code, *words]
        return subprocess.run(command, cwd=tmp_path, env=there, capture_output=True, text=True)

    (tmp_path / "my_networks.py").write_text(WHOLE)
    python(SAVE.format(module="my_networks")).check_returncode()
    # As the console script, which does not look there of its own accord.
    done = python(SCRIPT, "doctor", "whole.pt", "--unsafe_load", "--accelerator", "cpu")
    assert done.returncode == 0, done.stderr
    assert done.stderr == (
        "diffsmooth doctor: warning: whole.pt: loading runs whatever code the file holds\n"
    )


@pytest.mark.filterwarnings("ignore:.*loading runs whatever code")
def test_a_whole_module_whose_code_is_not_there_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "gone_networks.py").write_text(WHOLE)
    whole = importlib.import_module("gone_networks").Whole()
    torch.save(whole, tmp_path / "whole.pt")
    monkeypatch.delitem(sys.modules, "gone_networks")
    (tmp_path / "gone_networks.py").unlink()
    importlib.invalidate_caches()
    with pytest.raises(UserError, match=r"needs the module 'gone_networks'.*in its folder"):
        read_checkpoint(tmp_path / "whole.pt", unsafe=True)
    main = sys.modules["__main__"]
    monkeypatch.setattr(main, "Whole", type(whole), raising=False)
    monkeypatch.setattr(type(whole), "__module__", "__main__")
    torch.save(whole, tmp_path / "of_main.pt")
    monkeypatch.delattr(main, "Whole")
    with pytest.raises(UserError, match=r"needs Whole of the script that saved it.*state_dict"):
        read_checkpoint(tmp_path / "of_main.pt", unsafe=True)


def test_a_file_names_no_code_that_is_run(tmp_path: Path) -> None:
    path, folder = tmp_path / "evil.pt", str(tmp_path / "was_run")
    (tmp_path / "evil_package.py").write_text(f"import os; os.mkdir({folder!r})")
    torch.save(
        {"epoch": 1, "arch": "evil_package:network", "state_dict": {"1.w": torch.ones(1)}}, path
    )
    assert read_checkpoint(path).metadata.arch == ""
    with pytest.raises(UserError, match="does not name its architecture: give it"):
        load_classifier(path)
    assert not Path(folder).exists()
