"""A picture of images as they are, under noise, and purified."""

import torch

from diffsmooth.lit.data import ImageSet, load_images
from diffsmooth.lit.data.sources import is_folder
from diffsmooth.models import IdentityPurifier
from diffsmooth.models.checkpoints.formats import read_checkpoint
from diffsmooth.models.smoothing.noise import NoiseKey, NumpyNoise, Votes, draw_run
from diffsmooth.models.smoothing.precision import autocast, resolve_precision
from diffsmooth.models.smoothing.purifiers import Purifier
from diffsmooth.pipeline.command_specification import VisualizeOptions
from diffsmooth.pipeline.device import pick_device
from diffsmooth.pipeline.inputs import reading_for
from diffsmooth.pipeline.purifier_loading import load_purifier
from diffsmooth.report.image_grid import GridRow, NoisyPair
from diffsmooth.stats.errors import UserError, option_values


def purified_rows(options: VisualizeOptions) -> list[GridRow]:
    """The rows of the picture, one an image.

    Raises:
        UserError: a user's mistake.
    """
    device = pick_device(options.accelerator)
    with option_values():
        precision = resolve_precision(options.precision, device.type)
    images = pictures(options)
    print(images.describe())
    for index in options.images:
        if not 0 <= index < len(images):
            raise UserError(
                f"image {index} is beyond {options.dataset}: its {options.split} images are "
                f"0 to {len(images) - 1}"
            )
    found = load_purifier(options, max(options.sigma), images)
    if found.note:
        print(found.note)
    purifier = found.purifier.eval().to(device)
    with torch.inference_mode(), autocast(precision, device.type):
        return [look_at(images, index, options, purifier, device) for index in options.images]


def pictures(options: VisualizeOptions) -> ImageSet:
    """The images; those of a folder in the channels that the diffusion model takes."""
    path = options.diffusion_file if is_folder(options.dataset) else None
    checkpoint = read_checkpoint(path, options.unsafe_load) if path else None
    reading = reading_for(checkpoint, options)
    return load_images(options.dataset, options.data_root, options.split, reading)


def look_at(
    images: ImageSet,
    index: int,
    options: VisualizeOptions,
    purifier: Purifier,
    device: torch.device,
) -> GridRow:
    """An image, noisy and purified: the same draw of the noise at each level."""
    sample, info = images[index], images.info
    key = NoiseKey(options.seed, "doctor", info.name, options.split, index)
    source, votes = NumpyNoise(), [Votes(key, 0, 0, 1)]
    draws = draw_run(source, votes, purifier.draws, 0, 1, tuple(sample.image.shape))
    pairs = []
    for sigma in options.sigma:
        noisy = source.noisy(votes, [sample.image], purifier.noise_level(sigma), 1).images
        purified = purifier(noisy.to(device), sigma, None if draws is None else draws.to(device))
        after = None if type(purifier) is IdentityPurifier else purified[0].float().cpu().numpy()
        pairs.append(NoisyPair(noisy[0].numpy(), after))
    return GridRow(index, info.class_names[sample.label], sample.image.numpy(), tuple(pairs))
