"""`diffsmooth visualize`: a grid of images as they are, under noise, and purified."""

from pathlib import Path

import torch

from diffsmooth.cli.errors import OneLineParser, user_errors
from diffsmooth.cli.network_options import DATASETS, add_purifier_options
from diffsmooth.lit.data import ImageSet, load_images
from diffsmooth.lit.data.sources import is_folder
from diffsmooth.models import IdentityPurifier
from diffsmooth.models.checkpoints.denoisers import is_factory
from diffsmooth.models.checkpoints.formats import read_checkpoint
from diffsmooth.models.smoothing.draws import draw_run
from diffsmooth.models.smoothing.noise import NoiseKey, NumpyNoise, Votes
from diffsmooth.models.smoothing.precision import autocast, resolve_precision
from diffsmooth.models.smoothing.purifiers import Purifier, purifier_kind
from diffsmooth.pipeline.device import pick_device
from diffsmooth.pipeline.networks import find_diffusion, load_purifier, reading_for
from diffsmooth.pipeline.option_checks import check_noise
from diffsmooth.pipeline.output_checks import check_ending, check_file, check_no_input, data_files
from diffsmooth.pipeline.specification import PurifierOptions
from diffsmooth.report.figures import ENDINGS, save_figure
from diffsmooth.report.image_grid import GridRow, NoisyPair, image_grid
from diffsmooth.shown_text import shown
from diffsmooth.stats.errors import UserError, option_values

DESCRIPTION = """Draws a grid: one row an image with its index and class, then for each noise level
the noisy image, and the purified one with its PSNR. The noise is that of no certificate."""


def main(args: list[str] | None = None, prog: str = "diffsmooth visualize") -> None:
    """Runs the command on `args`, by default the process's."""
    parser = OneLineParser(prog=prog, description=DESCRIPTION)
    add = parser.add_argument
    add("dataset", type=str, help=DATASETS)
    add("outfile", type=str, help="PNG, PDF or SVG to write, by its ending")
    add("--images", type=int, nargs="+", default=[0], help="indices of images in the dataset")
    add("--split", type=str, default="test", help="train or test")
    add("--sigma", type=float, nargs="+", default=[0.25, 0.5, 1.0],
        help="noise levels, standard deviations in [0, 1] pixel units")  # fmt: skip
    add("--seed", type=int, default=0, help="seed of the noise")
    add_purifier_options(parser)
    add("--precision", type=str, default="auto",
        help="float32, bf16 (layers only), or auto: bf16 where the hardware has it")  # fmt: skip
    add("--accelerator", type=str, default="auto", help="auto, cpu or gpu")
    namespace = parser.parse_args(args)
    with user_errors(prog):
        # A vote may be a majority over runs, a picture is of one.
        options = PurifierOptions.from_namespace(namespace, runs=None)
        outfile, sigmas = Path(namespace.outfile), namespace.sigma
        for sigma in sigmas:
            check_noise("sigma", sigma)
        check_ending(outfile, ENDINGS)
        check_file(outfile)
        check_no_input([outfile], data_files(options.dataset, options.data_root))
        device = pick_device(namespace.accelerator)
        with option_values():
            precision = resolve_precision(namespace.precision, device.type)
        images = pictures(options, namespace.split)
        print(images.describe())
        for index in namespace.images:
            if not 0 <= index < len(images):
                raise UserError(
                    f"image {index} is beyond {options.dataset}: its {namespace.split} images are "
                    f"0 to {len(images) - 1}"
                )
        purifier, _, _, note = load_purifier(options, max(sigmas), images)
        if note:
            print(note)
        purifier.eval().to(device)
        with torch.inference_mode(), autocast(precision, device.type):
            rows = [
                look_at(images, index, namespace.split, sigmas, namespace.seed, purifier, device)
                for index in namespace.images
            ]
        save_figure(image_grid(rows, sigmas), outfile)
    print(f"figure {shown(outfile)}")


def pictures(options: PurifierOptions, split: str) -> ImageSet:
    """The images; those of a folder in the channels that the diffusion model takes."""
    path = find_diffusion(options.dataset, options.diffusion)
    asked = purifier_kind(options.purifier).denoiser and is_folder(options.dataset)
    is_file = path is not None and not is_factory(path)
    checkpoint = read_checkpoint(path, options.unsafe_load) if path and asked and is_file else None
    reading = reading_for(checkpoint, options.image_size, options.exif)
    return load_images(options.dataset, options.data_root, split, reading)


def look_at(
    images: ImageSet,
    index: int,
    split: str,
    sigmas: list[float],
    seed: int,
    purifier: Purifier,
    device: torch.device,
) -> GridRow:
    """An image, noisy and purified: the same draw of the noise at each level."""
    sample, info = images[index], images.info
    source, votes = (
        NumpyNoise(),
        [Votes(NoiseKey(seed, "doctor", info.name, split, index), 0, 0, 1)],
    )
    draws = draw_run(source, votes, purifier.draws, 0, 1, tuple(sample.image.shape))
    pairs = []
    for sigma in sigmas:
        noisy = source.noisy(votes, [sample.image], purifier.noise_level(sigma), 1)
        purified = purifier(noisy.to(device), sigma, None if draws is None else draws.to(device))
        after = None if type(purifier) is IdentityPurifier else purified[0].float().cpu().numpy()
        pairs.append(NoisyPair(noisy[0].numpy(), after))
    return GridRow(index, info.class_names[sample.label], sample.image.numpy(), tuple(pairs))
