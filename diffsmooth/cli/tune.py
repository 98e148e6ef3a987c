"""`diffsmooth tune`: sigma_local and m for a classifier, chosen on training images left to it."""

import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import yaml
from tqdm import tqdm

from diffsmooth.cli.errors import OneLineParser, user_errors
from diffsmooth.cli.tune_options import add_tune_options
from diffsmooth.lit.data import ImageSet, Reading, load_images
from diffsmooth.lit.data.sources import DATASETS, has_test_split, has_train_split
from diffsmooth.lit.probes import probe_images
from diffsmooth.lit.progress import QUIET_INTERVAL
from diffsmooth.models import LocalSmoothing
from diffsmooth.models.checkpoints.formats import read_checkpoint
from diffsmooth.models.checkpoints.image_cards import training_images_of
from diffsmooth.models.smoothing.engine import Task
from diffsmooth.models.smoothing.fixed_function import ensure_fixed
from diffsmooth.models.smoothing.inference import prepare
from diffsmooth.models.smoothing.noise import NoiseKey, noise_source
from diffsmooth.models.smoothing.precision import fix_numerics, resolve_precision
from diffsmooth.models.smoothing.sweep import Sweep, certify_settings
from diffsmooth.models.smoothing.vote_function import VoteFunction
from diffsmooth.pipeline.device import pick_device
from diffsmooth.pipeline.networks import (
    choose_classifier,
    load_purifier,
    reading_for,
)
from diffsmooth.pipeline.output_checks import check_ending, check_file, check_no_input, data_files
from diffsmooth.pipeline.sanity import check_sanity
from diffsmooth.pipeline.tune_images import choose_images, say_of_diffusion
from diffsmooth.pipeline.tune_specification import TuneOptions
from diffsmooth.report.figures import save_figure
from diffsmooth.report.sweep_figure import sweep_figure
from diffsmooth.report.sweep_table import (
    SweepOutcome,
    curse_text,
    goal_text,
    judge,
    sweep_frame,
    sweep_text,
)
from diffsmooth.shown_text import shown
from diffsmooth.stats import Certificate
from diffsmooth.stats.errors import UserError, option_values
from diffsmooth.stats.printed import exact, rounded_down, rounded_up
from diffsmooth.whole_file import write_whole

DESCRIPTION = """Chooses the local smoothing (sigma_local and m) by an estimate, from few votes an
image, of the certified accuracy of a run to come, on training images that the classifier's training
left out or held out, as far as its checkpoint says so. Test images are never used. All settings are
judged on the same noisy images, each purified once."""


class Chosen(NamedTuple):
    """What a sweep found, and what certify.py must be told beside the setting.

    Attributes:
        outcome: of the sweep.
        said: lines on what its images are to the networks.
        diffusion: file of the diffusion model, "" where there is none.
        input_layer: of the classifier, "" where its checkpoint says it.
    """

    outcome: SweepOutcome
    said: tuple[str, ...]
    diffusion: str
    input_layer: str


def main(args: list[str] | None = None, prog: str = "diffsmooth tune") -> None:
    """Runs the command on `args`, by default the process's."""
    args = sys.argv[1:] if args is None else args
    parser = OneLineParser(prog=prog, description=DESCRIPTION)
    add_tune_options(parser)
    namespace = parser.parse_args(args)
    with user_errors(prog):
        options = TuneOptions.from_namespace(namespace)
        outfile = Path(options.outfile)
        check_outfile(outfile, options.overwrite)
        check_no_input(files_of(outfile), data_files(options.dataset, options.data_root))
        chosen = choose(options)
        write(outfile, options, chosen, shlex.join([*prog.split(), *args]))
    print(sweep_text(chosen.outcome))
    quoted = shown(shlex.quote(str(outfile)))
    print(
        f"sweep {shown(outfile.with_suffix('.sweep.csv'))}, figure "
        f"{shown(outfile.with_suffix('.sweep.png'))}\n"
        f"to certify the test images: python certify.py --config {quoted} --outfile OUT.txt"
    )


def files_of(outfile: Path) -> tuple[Path, Path, Path]:
    """What is written: the config, the sweep and its figure."""
    return outfile, outfile.with_suffix(".sweep.csv"), outfile.with_suffix(".sweep.png")


def check_outfile(outfile: Path, overwrite: bool) -> None:
    """Raises UserError for a file that cannot be written, or is there already."""
    check_ending(outfile, (".yaml", ".yml"))
    for path in files_of(outfile):
        check_file(path)
        if path.exists() and not overwrite:
            raise UserError(f"{path} exists: give another name, or --overwrite to replace it")


def training_images(options: TuneOptions, reading: Reading) -> ImageSet:
    """The training split.

    Raises:
        UserError: there is none of its own: `certify` would certify the images of the choice.
    """
    there = options.dataset in DATASETS or Path(options.dataset).expanduser().exists()
    if there and not has_train_split(options.dataset):
        raise UserError(
            f"{options.dataset} has no training images apart from those that certify.py takes: "
            "name fashion_mnist, cifar10 or imagenet, or a folder with train.npz and test.npz, or "
            "train/ and test/, in it"
        )
    images = load_images(options.dataset, options.data_root, "train", reading)
    if options.dataset not in DATASETS and has_test_split(options.dataset):
        test = load_images(options.dataset, options.data_root, "test", reading)
        if _same(test, images):
            raise UserError(f"{options.dataset}: its training images are its test images")
    return images


def _same(images: ImageSet, others: ImageSet) -> bool:
    # A folder's fingerprint is of names and sizes, and uncompressed files may share both.
    return images.fingerprint() == others.fingerprint() and all(
        images.content_digest(i) == others.content_digest(i) for i in range(len(images))
    )


def choose(options: TuneOptions) -> Chosen:
    """Runs the sweep.

    Raises:
        UserError: a user's mistake.
    """
    device = pick_device(options.accelerator)
    with option_values():
        precision = resolve_precision(options.precision, device.type)
        noise_source(options.noise, device)
    fix_numerics(precision)
    checkpoint = read_checkpoint(options.classifier, options.unsafe_load, options.weights)
    metadata = checkpoint.metadata
    settings = options.settings(metadata.sigma)
    images = training_images(options, reading_for(checkpoint, options.image_size, options.exif))
    print(images.describe())
    taken = choose_images(options, training_images_of(checkpoint), images)
    indices, goal = taken.indices, options.goal
    # For what is checked once. Unpurified, it sees the votes' own noise, and wants no more.
    trained = 0.0 if options.purifier == "none" else metadata.sigma or 0.0
    usual = min(settings, key=lambda s: (abs(s.sigma_local - trained), -s.m))
    classifier = choose_classifier(options, usual.sigma_local, checkpoint, images, device)
    purifier, diffusion, _, note = load_purifier(options, options.sigma, images)
    for line in (*classifier.said, note):
        if line:
            print(line)
    total = options.votes.max_votes
    batch, shape = min(options.batch, total), images.info.image_shape
    with option_values():
        local = LocalSmoothing(
            classifier.model, usual.m, usual.sigma_local, shape, options.local_seed
        )
        f = VoteFunction(
            purifier, local, options.sigma, classifier.num_classes, batch, precision, copy=False
        )
    f.to(device)
    if options.sanity_check:
        found = check_sanity(f, images, total * len(indices), options.seed, device, indices)
        if found is not None:
            print(f"sanity check: accuracy of single votes {found}")
    said = taken.said
    if diffusion is not None:
        unet = training_images_of(read_checkpoint(diffusion, options.unsafe_load))
        said = (*said, say_of_diffusion(unet, images, indices))
    print(
        f"{len(settings)} settings on {len(indices)} of {taken.pool} images of "
        f"{shown(images.info.name)}, {total} votes each; sigma' "
        f"{'unknown' if metadata.sigma is None else metadata.sigma}\n"
        f"images: {taken.kind}"
    )
    for line in said:
        print(shown(line))
    sweep = Sweep(f, settings, options.local_seed)
    prepare(f)
    probed = probe_images(images, indices, images.info.image_shape)
    fixed = ensure_fixed(f, probed, lambda line: print(line, file=sys.stderr))
    if not fixed.exact:
        print(fixed)
    votes = run(sweep, options, images, indices)
    outcome = judge(settings, votes, total, goal, options.sigma, metadata.sigma, taken.kind)
    told = metadata.input_layer and options.normalize == "auto"
    return Chosen(outcome, said, str(diffusion or ""), "" if told else classifier.input_layer)


def run(sweep: Sweep, options: TuneOptions, images: ImageSet, indices: Sequence[int]) -> np.ndarray:
    """The votes for each image's label under each setting: int64 (S, M), in their orders.

    Votes of both stages count: no class is selected, for what matters is the label.
    """
    plan, labels = options.votes, []

    def tasks() -> Iterator[Task]:
        for index in indices:
            sample = images[index]
            labels.append(sample.label)
            key = NoiseKey(options.seed, "tune", images.info.name, "train", index)
            yield Task(sample.image, key)

    certificates: list[list[Certificate]] = []
    source = noise_source(options.noise, sweep.f.device)
    interval = 0.2 if sys.stderr.isatty() else QUIET_INTERVAL
    total = plan.max_votes * len(indices)
    with tqdm(total=total, unit="votes", mininterval=interval, dynamic_ncols=True) as bar:
        certificates += certify_settings(sweep, plan, tasks(), source, bar.update)
    votes = [
        [label_votes(certificate, label) for certificate in of_image]
        for of_image, label in zip(certificates, labels, strict=True)
    ]
    return np.array(votes, dtype=np.int64).T


def label_votes(certificate: Certificate, label: int) -> int:
    """The votes for a class, of both stages."""
    stages = (certificate.selection_counts, certificate.estimation_counts)
    return sum(dict(counts).get(label, 0) for counts in stages)


def write(outfile: Path, options: TuneOptions, chosen: Chosen, command: str) -> None:
    """Writes the sweep, its figure, and last the config."""
    outcome = chosen.outcome
    write_whole(
        outfile.with_suffix(".sweep.csv"), sweep_frame(outcome).to_csv(index=False).encode()
    )
    save_figure(sweep_figure(outcome), outfile.with_suffix(".sweep.png"))
    best = outcome.best
    config = options.for_certify(best.setting, chosen.diffusion, chosen.input_layer)
    estimate = best.estimate
    header = [
        f"By {shown(command)}",
        f"On {outcome.images} images of {shown(options.dataset)}: {outcome.kind}.",
        *map(shown, chosen.said),
        "Estimated certified accuracy of a run by this file at radius "
        f"{exact(outcome.goal.radius)}: "
        f"{rounded_down(estimate.value)} ({rounded_down(estimate.low)} .. "
        f"{rounded_up(estimate.high)}, 95 % over images), no certificate.",
        goal_text(outcome),
        *curse_text(outcome),
    ]
    lines = "".join(f"# {line}\n" for line in header)
    write_whole(outfile, (lines + yaml.safe_dump(config, sort_keys=False)).encode())
