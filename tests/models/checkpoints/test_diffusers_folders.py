"""Folders of `diffusers`: against the library's own forward pass and scheduler."""

import json
from pathlib import Path

import pytest
import torch

pytest.importorskip("diffusers")
from diffusers import DDPMPipeline, DDPMScheduler, HeunDiscreteScheduler, UNet2DModel
from diffusers.schedulers import scheduling_ddpm
from safetensors.torch import load_file, save_file

from diffsmooth.models import MultiStepPurifier, OneShotPurifier
from diffsmooth.models.checkpoints.denoisers import load_denoiser
from diffsmooth.models.checkpoints.folders import folder_sha256
from diffsmooth.stats.errors import UserError

SHAPE = (3, 16, 16)


def network(**options: object) -> UNet2DModel:
    torch.manual_seed(0)
    told = {
        "sample_size": 16, "block_out_channels": (8, 16), "norm_num_groups": 4,
        "layers_per_block": 1, "attention_head_dim": 8,
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    }  # fmt: skip
    unet = UNet2DModel(**{**told, **options}).eval()
    for parameter in unet.parameters():  # the library begins some layers with zeros
        torch.nn.init.normal_(parameter, std=0.1)
    return unet


def saved(folder: Path, unet: UNet2DModel, scheduler: DDPMScheduler) -> Path:
    """As google/ddpm-cifar10-32 lies: all in one folder."""
    unet.save_pretrained(folder)
    scheduler.save_pretrained(folder)
    (folder / "model_index.json").write_text(json.dumps({
        "_class_name": "DDPMPipeline", "scheduler": ["diffusers", "DDPMScheduler"],
        "unet": ["diffusers", "UNet2DModel"]}))  # fmt: skip
    return folder


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize(
    "schedule",
    [
        {"beta_schedule": "linear"},
        {"beta_schedule": "scaled_linear", "beta_end": 0.05},
        {"beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 500},
        {"trained_betas": [0.01 + i / 5000 for i in range(300)]},
        {"beta_schedule": "linear", "rescale_betas_zero_snr": True},
    ],
)
@torch.inference_mode()
def test_one_shot_is_the_librarys(tmp_path: Path, prediction: str, schedule: dict) -> None:
    unet, scheduler = network(), DDPMScheduler(prediction_type=prediction, **schedule)
    denoiser = load_denoiser(saved(tmp_path, unet, scheduler))
    noisy = torch.rand(2, *SHAPE) + 0.5 * torch.randn(2, *SHAPE)
    for sigma in (0.1, 0.5, 1.0):
        abar = scheduler.alphas_cumprod
        t = int(((1 - abar) / abar >= (2 * sigma) ** 2).nonzero()[0])
        x_t = (2 * noisy - 1) * abar[t].sqrt()
        wanted = scheduler.step(unet(x_t, t).sample, t, x_t).pred_original_sample
        torch.testing.assert_close(denoiser(noisy, sigma), (wanted + 1) / 2, atol=1e-5, rtol=0)
    assert denoiser.image_shape == SHAPE
    assert OneShotPurifier(denoiser).noise_level(0.5) == 0.5


@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large", "learned_range"])
@torch.inference_mode()
def test_a_step_is_the_librarys(
    tmp_path: Path, variance: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    unet = network(out_channels=6 if variance == "learned_range" else 3)
    scheduler = DDPMScheduler(variance_type=variance, beta_schedule="squaredcos_cap_v2")
    denoiser = load_denoiser(saved(tmp_path, unet, scheduler))
    steps = 5
    purifier = MultiStepPurifier(denoiser, steps=steps)  # type: ignore[arg-type]
    t = denoiser.start(0.5).timestep  # type: ignore[attr-defined]
    timesteps = purifier._spaced(t)
    scheduler.set_timesteps(timesteps=timesteps)
    noisy = torch.rand(2, *SHAPE) + 0.5 * torch.randn(2, *SHAPE)
    draws = torch.randn(steps - 1, 2, *SHAPE)
    x = (2 * noisy - 1) * scheduler.alphas_cumprod[t].sqrt()
    for index, step in enumerate(timesteps[:-1]):
        monkeypatch.setattr(scheduling_ddpm, "randn_tensor", lambda *_, i=index, **__: draws[i])
        x = scheduler.step(unet(x, step).sample, step, x).prev_sample
    last = timesteps[-1]
    wanted = scheduler.step(unet(x, last).sample, last, x).pred_original_sample
    torch.testing.assert_close(purifier(noisy, 0.5, draws), (wanted + 1) / 2, atol=1e-4, rtol=0)


def test_a_pipelines_two_folders_and_old_names(tmp_path: Path) -> None:
    unet, scheduler = network(), DDPMScheduler()
    whole = saved(tmp_path / "whole", unet, scheduler)
    DDPMPipeline(unet, scheduler).save_pretrained(tmp_path / "parts")
    noisy = torch.rand(2, *SHAPE)
    with torch.inference_mode():
        wanted = load_denoiser(whole)(noisy, 0.25)
        assert torch.equal(load_denoiser(tmp_path / "parts")(noisy, 0.25), wanted)
        file = whole / "diffusion_pytorch_model.safetensors"
        names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
        weights = load_file(file)
        before = folder_sha256(whole)
        for new, old in names.items():
            weights = {key.replace(f".{new}.", f".{old}."): value for key, value in weights.items()}
        save_file(weights, file)
        assert any(".query." in key for key in weights)
        assert torch.equal(load_denoiser(whole)(noisy, 0.25), wanted)
    assert folder_sha256(whole) != before


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        ("config.json", {"_class_name": "UNet2DConditionModel"}, "UNet2DModel is wanted"),
        ("config.json", {"num_class_embeds": 10}, "is missing|class-conditional"),
        ("config.json", {"layers_per_block": 10**9}, "layers_per_block"),
        ("config.json", {"out_channels": 6}, "conv_out"),
        ("config.json", {"block_out_channels": [8]}, "cannot be built"),
        ("scheduler_config.json", {"_class_name": "EDMEulerScheduler"}, "schedule of betas"),
        ("scheduler_config.json", {"prediction_type": "flow"}, "prediction_type 'flow'"),
        ("scheduler_config.json", {"variance_type": "learned"}, "variance_type 'learned'"),
        ("scheduler_config.json", {"variance_type": "learned_range"}, "3 channels"),
        ("scheduler_config.json", {"num_train_timesteps": 10**9}, "num_train_timesteps"),
        ("scheduler_config.json", {"beta_schedule": "new"}, "cannot be made"),
        ("scheduler_config.json", {"trained_betas": [1.0]}, "cannot be made"),
        ("scheduler_config.json", {"_class_name": "EulerDiscreteScheduler",
                                   "timestep_type": "continuous"}, "timestep_type 'continuous'"),
        ("scheduler_config.json", {"beta_start": 2.0, "beta_end": 3.0}, "cannot be made"),
        ("model_index.json", {"vqvae": ["diffusers", "VQModel"]}, "on pixels"),
    ],
)  # fmt: skip
def test_what_is_refused(tmp_path: Path, file: str, change: dict, words: str) -> None:
    folder = saved(tmp_path, network(), DDPMScheduler())
    config = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps({**config, **change}))
    with pytest.raises(UserError, match=words):
        load_denoiser(folder)


@pytest.mark.filterwarnings("ignore:__array__")  # the library's
def test_what_a_configuration_leaves_out_is_its_own_classs(tmp_path: Path) -> None:
    folder = saved(tmp_path, network(), DDPMScheduler())
    (folder / "scheduler_config.json").write_text('{"_class_name": "HeunDiscreteScheduler"}')
    wanted = HeunDiscreteScheduler().alphas_cumprod.double().numpy()
    schedule = load_denoiser(folder).schedule  # type: ignore[attr-defined]
    assert schedule.alphas_cumprod == pytest.approx(wanted, rel=1e-6)


def test_a_folder_without_its_schedule_is_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path, network(), DDPMScheduler())
    (folder / "scheduler_config.json").unlink()
    with pytest.raises(UserError, match=r"no scheduler_config\.json"):
        load_denoiser(folder)


def test_sigma_beyond_the_schedule_and_other_images_are_refused(tmp_path: Path) -> None:
    denoiser = load_denoiser(saved(tmp_path, network(), DDPMScheduler(num_train_timesteps=100)))
    with pytest.raises(ValueError, match="beyond"):
        denoiser.noise_level(5.0)
    with pytest.raises(ValueError, match="3 x 16 x 16"):
        denoiser.check_images((3, 32, 32))
