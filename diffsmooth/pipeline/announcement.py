"""What a run will do, in five lines before its first vote: so that a slip costs no night."""

import math
import os
from pathlib import Path
from typing import NamedTuple

import torch

from diffsmooth.models.smoothing.fixed_function import FixedFunction
from diffsmooth.models.smoothing.host import usable_cores
from diffsmooth.models.smoothing.noise_sources import source_word
from diffsmooth.pipeline.networks import Networks
from diffsmooth.pipeline.noise_choice import inexact
from diffsmooth.pipeline.specification import SmoothingOptions
from diffsmooth.report.cautions import few_classes
from diffsmooth.runs.identity import RunIdentity
from diffsmooth.shown_text import shown
from diffsmooth.stats import Plan
from diffsmooth.stats.printed import counted
from diffsmooth.stats.results import kind_of_noise


class Announcement(NamedTuple):
    """Says what a run will do.

    Attributes:
        options: of the run, with the skip that it takes.
        identity: with all that was chosen.
        networks, plan, device: of its votes.
        taken: which images, or tries, on one line.
        items: how many of them this process's job has.
        is_first: whether it chooses itself; what an earlier start chose is kept.
        is_skip_told: whether the user has said which images.
    """

    options: SmoothingOptions
    identity: RunIdentity
    networks: Networks
    plan: Plan
    device: torch.device
    taken: str
    items: int
    is_first: bool
    is_skip_told: bool

    def lines(self) -> list[str]:
        """The first four: images, networks, computing, and where results go."""
        return [self._data(), self._networks(), self._computing(), self._output()]

    def votes(self, done: int, fixed: FixedFunction | None, processes: int) -> str:
        """The fifth, of votes and of time.

        Args:
            done: items that earlier starts have done.
            fixed: what was found when the networks were tried; None where they were not.
            processes: that vote side by side, each as fast as this one.
        """
        left, each = self.items - done, self.plan.max_votes
        most = " at most" if len(self.plan.looks) > 1 else ""
        count = f"{self.items:,} x {each:,}{most} = {self.items * each:,}"
        text = f"votes: plan {shown(self.plan.name)}, {count}, {self._noise()}"
        if done:
            text += f"; {done:,} of {self.items:,} are done"
        if fixed is None or not fixed.seconds:
            return text if left else f"{text}, nothing is left to do"
        rate = processes * self._share * (self.identity.batch or 1) / fixed.seconds
        alone = ", without the attacks' steps" if self.identity.command == "attack" else ""
        time = f"about {duration(left * each / rate)}{most}{alone}"
        return f"{text}; {time}, at {rate:,.0f} votes/s"

    @property
    def _share(self) -> float:
        """Of its time in which a process has the cores that its threads want."""
        wanted = self.options.devices * (self.identity.threads or 1)
        return min(1.0, usable_cores() / wanted) if self.device.type == "cpu" else 1.0

    def _data(self) -> str:
        images = self.networks.images
        shape = " x ".join(map(str, images.info.image_shape))
        size = f"{len(images):,} of {shape}, {counted(images.info.num_classes, 'class')}"
        skip = self.identity.skip
        why = "they are few" if skip == 1 else "as the published code"
        auto = "" if self.is_skip_told else self._why(why)
        name = shown(images.info.name)
        text = f"data: {name}, {self.options.split}: {size}; {self.taken}{auto}"
        if self.identity.command == "attack" or not images.is_labelled:  # its items are tries
            return text
        few = few_classes(images.labels[list(self.identity.selection)], images.info.class_names)
        return f"{text}; {few}" if few else text

    def _networks(self) -> str:
        o, i = self.options, self.identity
        layer = i.input_layer or "none"
        what = i.arch or "a classifier"
        text = f"networks: {what} behind input layer {layer}"
        if o.classifier != what:  # else it is code
            text += f", {near(o.classifier)}"
        source = self.networks.purifier.source
        if source is None:
            unused = f" ({near(o.diffusion)} is not used)" if o.diffusion else ""
            return shown(f"{text}; purifier {o.purifier}{unused}")
        found = self._why("it lies where it should") if o.diffusion is None else ""
        text += f"; purifier {o.purifier}, {near(source)}{found}"
        return shown(f"{text}; m {o.m}, sigma_local {o.local_noise_sd:g}")

    def _computing(self) -> str:
        o, i, cuda = self.options, self.identity, self.device.type == "cuda"
        usual = "the published code's" if i.command == "certify" else "its default"
        size = "as many as fit" if cuda else usual
        if i.batch == self.plan.max_votes:
            size = "an image's votes"
        told = [
            (f"{counted(o.processes, 'process')} on {i.hardware}", False, ""),
            (counted(i.threads or 1, "thread"), o.threads is None, "cores / processes"),
            (str(i.precision), o.precision == "auto", "the best that the hardware has"),
            (f"batch {i.batch}", o.batch == "auto", size),
            (
                "compiled" if i.compile else "not compiled",
                o.compile == "auto" and cuda,
                "by the work ahead",
            ),
        ]
        each = ", ".join(f"{what}{self._why(why) if auto else ''}" for what, auto, why in told)
        return f"computing: {each}"

    def _noise(self) -> str:
        source = str(self.identity.noise_source)
        text = f"{kind_of_noise(source)} noise, {source}"
        if self.options.noise != "auto" or self.identity.command == "attack":
            return text
        why = "all images are of 8 bits"
        if self.is_first and source_word(source) != "integer":
            level = self.networks.purifier.purifier.noise_level(self.options.sigma)
            why = inexact(self.networks.images, self.identity.selection, level)
        return text + self._why(why)

    def _output(self) -> str:
        files = self.options.files
        goes_on = " (goes on from there)" if files.parts_of_journals() else ""
        return (
            f"output: {shown(files.table)}, and beside it .jsonl, .manifest.json{goes_on}; curves "
            f"in {shown(self.options.logdir)}"
        )

    def _why(self, why: str) -> str:
        """That something is chosen, and why."""
        return f" (auto: {why})" if self.is_first else " (as the run was begun)"


def near(path: str) -> str:
    """A path as it is seen from the working directory, where it lies below it."""
    below = os.path.isabs(path) and Path(path).is_relative_to(Path.cwd())
    return os.path.relpath(path) if below else path


def duration(seconds: float) -> str:
    """So many seconds in words, in the largest units that tell them."""
    if seconds < 60:
        return f"{math.ceil(seconds)} s"
    minutes = math.ceil(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours = math.ceil(minutes / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes < 600 else f"{hours:,} h"
