"""From options to a job that is ready to run: datasets, networks, plan, identity, trainer."""

import logging
import warnings
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import lightning.pytorch as pl
import torch
from lightning.pytorch.strategies import DDPStrategy

from diffsmooth.cli.options import SmoothingOptions
from diffsmooth.lit.certification import CertificationModule
from diffsmooth.lit.data import ImageSet, load_images
from diffsmooth.lit.identity import RunIdentity, file_sha256, hardware_name
from diffsmooth.lit.outputs import Outputs, RunContext
from diffsmooth.lit.progress import CertificationProgress
from diffsmooth.models import (
    IdentityPurifier,
    LocalSmoothing,
    OneShotPurifier,
    SmoothedClassifier,
)
from diffsmooth.models.noise import Purpose
from diffsmooth.models.precision import resolve_precision
from diffsmooth.models.presets import get_preset
from diffsmooth.models.unet import UNet
from diffsmooth.models.weights import Checkpoint, classifier_of, read_checkpoint, unet_of
from diffsmooth.stats import Plan

# Where a dataset's diffusion model lies unless --diffusion says otherwise.
DIFFUSION_FILES = {
    "fashion_mnist": ("checkpoints/fashion_mnist_diffusion.pt",),
    "fashion_mnist_sample": ("checkpoints/fashion_mnist_diffusion.pt",),
    "cifar10": (
        "pretrained_models/cifar10_uncond_50M_500K.pt",
        "checkpoints/cifar10_uncond_50M_500K.pt",
    ),
    "imagenet": (
        "pretrained_models/256x256_diffusion_uncond.pt",
        "checkpoints/256x256_diffusion_uncond.pt",
    ),
}
ONE_RUN = timedelta(days=30)  # ranks may end hours apart


class Job(NamedTuple):
    """A certification or prediction run, ready to start."""

    module: CertificationModule
    trainer: pl.Trainer
    outputs: Outputs
    context: RunContext


def build_job(options: SmoothingOptions, command: Purpose, plan: Plan) -> Job:
    """Loads everything that a run needs, and writes nothing.

    Raises:
        ValueError: a user's mistake.
    """
    _hush()
    images = load_images(options.dataset, options.data_root, options.split)
    selection = list(range(0, _stop(options.max, len(images)), options.skip))
    if not selection:
        raise ValueError(f"no image is left with skip {options.skip} and max {options.max}")
    checkpoint = read_checkpoint(options.classifier)
    classifier = classifier_of(checkpoint)
    _check_classifier(checkpoint, images)
    purifier, diffusion = _build_purifier(options, images)
    local = LocalSmoothing(
        classifier,
        options.m,
        options.local_noise_sd,
        images.info.image_shape,
        options.local_seed,
    )
    trainer = _build_trainer(options)
    # After Lightning, which sets the threads of its own accord in child processes.
    torch.set_num_threads(options.threads_a_process)
    torch.backends.cudnn.deterministic = True  # f must be one fixed function
    device = trainer.strategy.root_device
    batch = min(options.batch, plan.max_votes)
    precision = resolve_precision(options.precision, device.type)  # type: ignore[arg-type]
    smoothed = SmoothedClassifier(
        purifier, local, options.sigma, len(checkpoint.metadata.class_names), batch, precision
    )
    identity = RunIdentity(
        command=command,
        dataset=images.info.name,
        split=options.split,
        data=images.fingerprint(),
        skip=options.skip,
        max=options.max,
        classifier=file_sha256(options.classifier),
        diffusion=file_sha256(diffusion) if diffusion else "",
        purifier=options.purifier,
        sigma=options.sigma,
        m=options.m,
        sigma_local=options.local_noise_sd,
        seed=options.seed,
        local_seed=options.local_seed,
        plan=str(plan),
        batch=batch,
        threads=options.threads_a_process,
        precision=precision,
        hardware=hardware_name(device),
    )
    outputs = Outputs(options.outfile)
    context = RunContext(
        options.devices,
        options.num_nodes,
        options.accelerator,
        options.classifier,
        str(diffusion or ""),
        options.data_root,
    )
    module = CertificationModule(smoothed, plan, images, selection, identity, outputs)
    return Job(module, trainer, outputs, context)


def _stop(maximum: int, total: int) -> int:
    return total if maximum < 0 else min(maximum, total)


def _check_classifier(checkpoint: Checkpoint, images: ImageSet) -> None:
    """Refuses a classifier that was not made for such images."""
    path, metadata = checkpoint.path, checkpoint.metadata
    largest, classes = int(images.labels.max()), len(metadata.class_names)
    if largest >= classes:
        raise ValueError(
            f"{images.info.name}: label {largest} is beyond the {classes} classes of {path}"
        )
    wanted, given = metadata.image_shape[0], images.info.image_shape[0]
    if wanted != given:
        raise ValueError(
            f"{path} takes images of {wanted} channels, {images.info.name} has {given}"
        )


def _build_purifier(
    options: SmoothingOptions, images: ImageSet
) -> tuple[IdentityPurifier | OneShotPurifier, Path | None]:
    if options.purifier == "none":
        return IdentityPurifier(), None
    path = _find_diffusion(options)
    checkpoint = read_checkpoint(path)
    unet = unet_of(checkpoint)
    _check_unet(checkpoint, unet, options.sigma, images)
    return OneShotPurifier(unet, get_preset(checkpoint.metadata.preset).schedule), path


def _find_diffusion(options: SmoothingOptions) -> Path:
    if options.diffusion is not None:
        return Path(options.diffusion)
    places = DIFFUSION_FILES.get(options.dataset, ())
    for place in places:
        if Path(place).is_file():
            return Path(place)
    tried = f" (looked for {', '.join(places)})" if places else ""
    raise ValueError(
        f"no diffusion model for {options.dataset}{tried}: name one with --diffusion, "
        "or use --purifier none"
    )


def _check_unet(checkpoint: Checkpoint, unet: UNet, sigma: float, images: ImageSet) -> None:
    """Refuses a U-Net that was not made for such images or such noise."""
    path, largest = checkpoint.path, checkpoint.metadata.max_sigma
    if largest is not None and sigma > largest:
        raise ValueError(
            f"sigma {sigma} is beyond what {path} was trained for: "
            f"the largest possible is {largest:g}"
        )
    config = unet.config
    channels, height, width = images.info.image_shape
    if config.in_channels != channels:
        raise ValueError(
            f"{path} takes images of {config.in_channels} channels, "
            f"{images.info.name} has {channels}"
        )
    multiple = 2 ** (len(config.channel_mult) - 1)
    if height % multiple or width % multiple:
        raise ValueError(
            f"{path} takes images whose sides are multiples of {multiple}, "
            f"{images.info.name} has {height} x {width}"
        )


def _build_trainer(options: SmoothingOptions) -> pl.Trainer:
    many = options.devices * options.num_nodes > 1
    try:
        return pl.Trainer(
            accelerator=options.accelerator,
            devices=options.devices,
            num_nodes=options.num_nodes,
            strategy=DDPStrategy(process_group_backend="gloo", timeout=ONE_RUN) if many else "auto",
            use_distributed_sampler=False,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            callbacks=[CertificationProgress()],
        )
    except (RuntimeError, pl.utilities.exceptions.MisconfigurationException) as error:
        raise ValueError(str(error)) from error


def _hush() -> None:
    """Keeps Lightning's remarks about itself out of the output."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    warnings.filterwarnings("ignore", ".*LeafSpec.*")
    warnings.filterwarnings("ignore", ".*across ranks is zero.*")
    warnings.filterwarnings("ignore", ".*predict returned None.*")
