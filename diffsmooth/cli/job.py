"""From options to a job that is ready to run: datasets, networks, plan, identity, trainer."""

import logging
import os
import warnings
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import lightning.pytorch as pl
import torch
from lightning.pytorch.plugins.environments import SLURMEnvironment
from lightning.pytorch.strategies import DDPStrategy

from diffsmooth.cli.options import SmoothingOptions
from diffsmooth.lit.certification import CertificationModule
from diffsmooth.lit.data import ImageSet, load_images
from diffsmooth.lit.identity import RunIdentity, file_sha256, hardware_name
from diffsmooth.lit.outputs import OutputFiles, Outputs, RunContext
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
    files: OutputFiles


def build_job(options: SmoothingOptions, command: Purpose, plan: Plan) -> Job:
    """Loads everything that a run needs, and writes nothing.

    Raises:
        ValueError: a user's mistake.
    """
    _hush()
    files = OutputFiles(options.outfile)
    # What the first start chose of its own accord binds those that go on from there.
    chosen = (None if options.overwrite else files.stored_identity()) or {}
    checkpoint = read_checkpoint(options.classifier)
    classifier = classifier_of(checkpoint)
    metadata = checkpoint.metadata
    images = load_images(
        options.dataset, options.data_root, options.split, metadata.image_shape[-1]
    )
    _check_classifier(checkpoint, images)
    selection = list(range(0, _stop(options.max, len(images)), options.skip))
    if not selection:
        raise ValueError(f"no image is left with skip {options.skip} and max {options.max}")
    purifier, diffusion = _build_purifier(options, images)
    local = LocalSmoothing(
        classifier,
        options.m,
        options.local_noise_sd,
        images.info.image_shape,
        options.local_seed,
    )
    trainer = _build_trainer(options)
    device = trainer.strategy.root_device
    # f must be one fixed function: no choice of kernels by timing, and float32 means float32.
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False
    batch = min(options.batch, plan.max_votes)
    precision = options.precision
    if precision == "auto":
        precision = chosen.get("precision", precision)
    precision = resolve_precision(precision, device.type)
    smoothed = SmoothedClassifier(
        purifier, local, options.sigma, len(metadata.class_names), batch, precision
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
        threads=options.threads or chosen.get("threads") or _threads_a_process(options.devices),
        precision=precision,
        hardware=hardware_name(device),
    )
    context = RunContext(
        options.devices,
        options.num_nodes,
        options.accelerator,
        options.classifier,
        str(diffusion or ""),
        options.data_root,
    )
    outputs = Outputs(files, identity)
    module = CertificationModule(
        smoothed, plan, images, selection, outputs, context, options.overwrite
    )
    return Job(module, trainer, files)


def _threads_a_process(processes: int) -> int:
    """The cores of this host that we may use, shared among its processes."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, cores // processes)


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
    wanted, given = tuple(metadata.image_shape), images.info.image_shape
    if wanted != given:
        raise ValueError(
            f"{path} takes images of {' x '.join(map(str, wanted))}, "
            f"{images.info.name} has {' x '.join(map(str, given))}"
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
    processes = options.devices * options.num_nodes
    slurm = SLURMEnvironment.detect()
    started = int(os.environ.get("SLURM_NTASKS" if slurm else "WORLD_SIZE", processes))
    if started != processes:
        raise ValueError(
            f"the launcher started {started} processes, but devices x num_nodes is "
            f"{options.devices} x {options.num_nodes}: set --devices and --num_nodes to match"
        )
    try:
        return pl.Trainer(
            accelerator=options.accelerator,
            devices=options.devices,
            num_nodes=options.num_nodes,
            strategy=DDPStrategy(process_group_backend="gloo", timeout=ONE_RUN)
            if processes > 1
            else "auto",
            # Rerunning is by the batch script; Lightning would requeue in mid-prediction.
            plugins=[SLURMEnvironment(auto_requeue=False)] if slurm else None,
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
