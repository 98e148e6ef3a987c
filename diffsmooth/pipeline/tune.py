"""`tune` from its options to its files: the sweep over settings, and the config of the best."""

import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import yaml
from tqdm import tqdm

from diffsmooth.lit.certification.progress import QUIET_INTERVAL
from diffsmooth.lit.data import ImageSet
from diffsmooth.lit.probes import probe_images
from diffsmooth.models.checkpoints.formats import read_checkpoint
from diffsmooth.models.checkpoints.image_cards import training_images_of
from diffsmooth.models.checkpoints.sources import read_classifier
from diffsmooth.models.smoothing.engine import Task
from diffsmooth.models.smoothing.fixed_function import ensure_fixed
from diffsmooth.models.smoothing.inference import prepare
from diffsmooth.models.smoothing.noise import NoiseKey
from diffsmooth.models.smoothing.noise_sources import asked_name, noise_source
from diffsmooth.models.smoothing.precision import fix_numerics, resolve_precision
from diffsmooth.models.smoothing.sweep import Sweep, certify_settings
from diffsmooth.pipeline.classifier_choice import choose_classifier
from diffsmooth.pipeline.device import choose_norms, pick_device
from diffsmooth.pipeline.inputs import Inputs, reading_for
from diffsmooth.pipeline.networks import Networks
from diffsmooth.pipeline.noise_choice import choose_noise
from diffsmooth.pipeline.purifier_loading import load_purifier
from diffsmooth.pipeline.sanity import check_sanity
from diffsmooth.pipeline.tune_images import choose_images, say_of_diffusion, training_images
from diffsmooth.pipeline.tune_specification import TuneOptions
from diffsmooth.report.figures import save_figure
from diffsmooth.report.sweep_figure import sweep_figure
from diffsmooth.report.sweep_table import (
    SweepOutcome,
    curse_text,
    goal_text,
    judge,
    sweep_frame,
)
from diffsmooth.shown_text import shown
from diffsmooth.stats import Certificate
from diffsmooth.stats.errors import option_values
from diffsmooth.stats.printed import exact, rounded_down, rounded_up
from diffsmooth.whole_file import write_whole


class Chosen(NamedTuple):
    """What a sweep found, and what certify.py must be told beside the setting.

    Attributes:
        outcome: what the sweep measured.
        said: lines on what its images are to the networks.
        diffusion: file of the diffusion model, "" where there is none.
        input_layer: the classifier's, "" where its checkpoint says it.
    """

    outcome: SweepOutcome
    said: tuple[str, ...]
    diffusion: str
    input_layer: str


def choose(options: TuneOptions) -> Chosen:
    """Runs the sweep.

    Raises:
        UserError: a user's mistake.
    """
    device = pick_device(options.accelerator)
    with option_values():
        precision = resolve_precision(options.precision, device.type)
    fix_numerics(precision)
    checkpoint = read_classifier(options.classifier, options.weights, options.unsafe_load)
    metadata = checkpoint.metadata
    settings = options.settings(metadata.sigma)
    images = training_images(options, reading_for(checkpoint, options))
    taken = choose_images(options, training_images_of(checkpoint), images)
    indices, total = taken.indices, options.votes.max_votes
    # For what is checked once. Unpurified, it sees the votes' own noise, and wants no more.
    trained = metadata.sigma or 0.0 if options.kind.denoiser else 0.0
    usual = min(settings, key=lambda s: (abs(s.sigma_local - trained), -s.m))
    networks = Networks(
        images,
        choose_classifier(options, usual.sigma_local, Inputs(checkpoint, images), device),
        load_purifier(options, options.sigma, images),
    )
    print("\n".join([networks.images.describe(), *networks.notes]))
    batch = min(options.batch, total)
    f = networks.vote_function(options, usual.m, usual.sigma_local, batch, precision).to(device)
    if options.sanity_check:
        ahead = total * len(indices)
        print(check_sanity(f, images, ahead, options.seed, device, indices), end="")
    said = taken.said
    diffusion = networks.purifier.source
    if options.diffusion_file is not None:
        unet = training_images_of(read_checkpoint(options.diffusion_file, options.unsafe_load))
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
    prepare(f, norm_kernel=bool(choose_norms(None, f, f.device, compiled=False)))
    probed = probe_images(images, indices, images.info.image_shape)
    fixed = ensure_fixed(f, probed, lambda line: print(line, file=sys.stderr))
    if not fixed.exact:
        print(fixed)
    votes = run(sweep, options, images, indices)
    outcome = judge(settings, votes, total, options.goal, options.sigma, metadata.sigma, taken.kind)
    told = metadata.input_layer and options.normalize == "auto"
    layer = "" if told else networks.classifier.input_layer
    return Chosen(outcome, said, diffusion or "", layer)


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
    word = choose_noise(asked_name(options.noise), images, indices, sweep.f.noise_level)
    source = noise_source(word, sweep.f.device)
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


def write(options: TuneOptions, chosen: Chosen, command: str) -> None:
    """Writes the sweep, its figure, and last the config, which names the command."""
    outcome, (outfile, table, figure) = chosen.outcome, options.files
    write_whole(table, sweep_frame(outcome).to_csv(index=False).encode())
    save_figure(sweep_figure(outcome), figure)
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
