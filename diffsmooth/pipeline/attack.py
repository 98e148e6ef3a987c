"""Attacks on a certified run: its networks and images again, and PREDICT on what attacks make."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from diffsmooth.lit.attack import AttackedImages, AttackModule, Target, Try
from diffsmooth.lit.data import ImageSet
from diffsmooth.lit.data.images import evenly_spaced
from diffsmooth.models.attacks.smoothed import SmoothedAttack
from diffsmooth.models.smoothing.noise import NoiseSource
from diffsmooth.models.smoothing.noise_sources import noise_source, source_word
from diffsmooth.models.smoothing.rounded_noise import RoundedNoise
from diffsmooth.models.smoothing.vote_function import VoteFunction
from diffsmooth.pipeline.attack_specification import AttackOptions
from diffsmooth.pipeline.identity import Command
from diffsmooth.pipeline.job import Job, Work
from diffsmooth.pipeline.specification import SmoothingOptions
from diffsmooth.runs.identity import RunIdentity
from diffsmooth.runs.outputs import Problem
from diffsmooth.stats import ImageRecord, MajorityVote, Plan
from diffsmooth.stats.bounds import votes_to_answer
from diffsmooth.stats.empirical import checking_level
from diffsmooth.stats.errors import UserError, option_values
from diffsmooth.stats.printed import counted

# What of an identity is no property of the smoothed classifier and its images.
FREE = frozenset({
    "command", "plan", "seed", "batch", "threads", "precision", "compile", "norms", "kernels",
    "noise_source", "hardware", "torch", "numpy", "numerics", "indices", "attacked", "attack",
})  # fmt: skip


class AttackWork(Work):
    """What a run of attacks does with the images of the attacked run.

    Args:
        options: the command's.

    Attributes:
        images: the tries; once `voted_on` was called.
        job_options: of the job, see `AttackOptions.for_job`.
        is_prepared: whether f has been prepared in this process.
    """

    images: AttackedImages

    def __init__(self, options: AttackOptions) -> None:
        self.options = options
        self.is_prepared = False
        self.attacked = options.attacked
        self.job_options = options.for_job()
        if options.straight_through and not self.job_options.kind.denoiser:
            raise UserError("straight_through is of a purifier's gradient: the run has none")
        with option_values():
            self.how = SmoothedAttack(
                options.steps,
                options.restarts,
                options.noise_samples,
                options.search_votes,
                options.alpha,
                options.straight_through,
                options.rows,
            )

    def voted_on(self, images: ImageSet) -> AttackedImages:
        options, records = self.options, self.attacked.run.records
        tried = [record for record in records if not record.error]
        chosen = evenly_spaced(len(tried), min(options.max_images, len(tried)))
        targets = [
            Target(r.index, r.certificate.prediction, r.certificate.radius)
            for r in (tried[place] for place in chosen)
        ]
        tries = len(targets) * (1 + len(tries_of(options)))
        least = votes_to_answer(checking_level(tries, options.restarts))
        if options.check_n < least:
            raise UserError(
                f"check_n must be at least {least} for {tries} tries: fewer votes tell nothing at "
                f"the level of the checks, got {options.check_n}"
            )
        if not targets or targets[-1].image >= len(images):
            raise UserError(f"{options.run}: has images that the dataset has not")
        self.images = AttackedImages(
            images,
            targets,
            tries_of(options),
            self.how,
            options.seed,
            self.attacked.identity.split,
            self.attacked.is_exact,
            options.grid,
        )
        return self.images

    def taken(self, options: SmoothingOptions, items: int) -> str:
        return f"{len(self.images.targets):,} of the run's, {counted(items, 'try')}"

    def identity(self, asked: RunIdentity) -> RunIdentity:
        stored, own = self.attacked.run.identity, asked.recorded()
        free = {name: own[name] for name in FREE if name in own}
        difference = asked.difference({k: v for k, v in stored.items() if k not in FREE} | free)
        if difference:
            raise UserError(
                f"{self.options.run} is of another smoothed classifier, or of other images: "
                f"{difference}"
            )
        selection, images = self.images.selection, self.images
        is_whole = selection == list(range(len(images)))
        return replace(
            asked,
            size=len(images),
            skip=1,
            max=-1,
            indices=() if is_whole else tuple(selection),
            attacked=self.attacked.digest,
            attack=f"{self.how} by {images.tries} on {len(images.targets)} images"
            f"{', on the 8-bit grid' if self.options.grid else ''}",
            noise_source=self.source(torch.device("cpu")).name,
        )

    def source(self, device: torch.device) -> NoiseSource:
        """Of the votes on attacked images, which need not be on the 8-bit grid."""
        if self.attacked.is_exact:
            return RoundedNoise(device)
        return self.certifying_source(device)

    def certifying_source(self, device: torch.device) -> NoiseSource:
        """Of fresh certificates: as the attacked run's."""
        return noise_source(source_word(str(self.attacked.identity.noise_source)), device)

    def noise(self, stored: str | None, images: ImageSet, indices: list[int], level: float) -> str:
        assert stored is not None  # see `identity`
        return stored

    def prepare(self, f: VoteFunction, identity: RunIdentity) -> None:
        self.images.take(f)
        super().prepare(f, identity)
        self.is_prepared = True

    def make_ready(self, job: Job) -> VoteFunction:
        """f once more, on rank zero of a run that has ended, for votes and for attacks."""
        f = job.module.f.to(job.trainer.strategy.root_device)  # Lightning took it off
        if not self.is_prepared:  # all had been done before
            self.prepare(f.eval(), job.run_keeper.outputs.identity)
        return f

    def probed(self, selection: Sequence[int]) -> list[int]:
        return [index for index in selection if index % self.images.each == 0]

    def module(
        self,
        f: VoteFunction,
        plan: Plan,
        images: ImageSet,
        share: list[int],
        command: Command,
        options: SmoothingOptions,
        noise: str,
    ) -> AttackModule:
        assert isinstance(plan, MajorityVote)
        return AttackModule(
            f,
            plan,
            self.images,
            share,
            options.split,
            options.seed,
            self.source,
            options.in_flight,
        )

    def find_problem(self, images: ImageSet, records: Sequence[ImageRecord]) -> Problem | None:
        """The attacked images themselves are not made again."""
        for record in records:
            label, wanted = images.label(record.index), self.images.attack_of(record.index)
            if record.label != label:
                return Problem(record, f"has label {record.label}, but the data give it {label}")
            if record.attack is None or replace(record.attack, norm=wanted.norm) != wanted:
                return Problem(record, f"is of {record.attack}, not of {wanted}")
        return None


def tries_of(options: AttackOptions) -> list[Try]:
    """pgd at each budget, and ddn at the largest of each kind."""
    tries = []
    for relative, budgets in ((True, options.factors), (False, sorted(options.radii or []))):
        if "pgd" in options.methods:
            tries += [Try("pgd", budget, relative) for budget in budgets]
        if "ddn" in options.methods and budgets:
            tries.append(Try("ddn", budgets[-1], relative))
    return tries
