"""Progress of a whole job: images, votes a second, accuracy so far, time left."""

import sys
import time
from collections import deque

import lightning.pytorch as pl
from tqdm import tqdm

from diffsmooth.lit.certification.module import CertificationCallback, CertificationModule
from diffsmooth.lit.certification.shared_work import Totals
from diffsmooth.stats.printed import rounded_down

QUIET_INTERVAL = 30.0  # seconds between lines where the output is not a terminal
WINDOW = 60.0  # seconds over which votes a second are measured
ENOUGH = 10  # finished images that tell what a sequential plan costs


class Progress(CertificationCallback):
    """On rank zero, a bar over the images of all ranks; lines where the output is no terminal."""

    _bar: tqdm | None = None

    def on_predict_start(self, trainer: pl.Trainer, module: CertificationModule) -> None:  # type: ignore[override]
        if not trainer.is_global_zero:
            return
        self._terminal = sys.stderr.isatty()
        self._interval = 0.2 if self._terminal else QUIET_INTERVAL
        self._plan, self._total = module.plan, len(module.selection)
        self._labelled = module.images.is_labelled
        # Of earlier starts: they count as images, not as speed.
        self._before = Totals.of(module.records)
        self._samples: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])
        self._shown_at = 0.0
        self._bar = tqdm(
            total=self._total,
            initial=self._before.images,
            bar_format="images {n_fmt}/{total_fmt} |{bar}| {desc}",  # fits into 80 columns
            dynamic_ncols=True,
            miniters=self._total + 1,  # shown by us
            disable=not self._terminal,
        )

    def on_votes(self, trainer: pl.Trainer, module: CertificationModule) -> None:
        if self._bar is not None and time.monotonic() - self._shown_at > self._interval:
            self.show(module.shared.totals())

    def on_predict_end(self, trainer: pl.Trainer, module: CertificationModule) -> None:  # type: ignore[override]
        if self._bar is not None:
            self.show(module.shared.totals())
            self._bar.close()
            self._bar = None

    def on_exception(self, *args: object) -> None:
        """Leaves the bar as it is drawn: it would be drawn again below what is said then."""
        if self._bar is not None:
            self._bar.disable = True

    def show(self, totals: Totals) -> None:
        """Shows the job's state: what all ranks have done since the start."""
        if not totals.votes:
            return
        now = self._shown_at = time.monotonic()
        self._samples.append((now, totals.votes))
        while now - self._samples[0][0] > WINDOW and len(self._samples) > 2:
            self._samples.popleft()
        since, votes = self._samples[0]
        rate = (totals.votes - votes) / max(now - since, 1e-9)
        images = self._before.images + totals.images
        parts = [f"{rate:,.0f} votes/s"]
        if images and self._labelled and self._plan.certifies:
            accuracy = (self._before.correct + totals.correct) / images
            radius = (self._before.radius + totals.radius) / images
            parts += [f"certified {rounded_down(accuracy)}", f"ACR {rounded_down(radius)}"]
        left = self._seconds_left(totals, rate)
        parts.append("ETA ?" if left is None else f"ETA {tqdm.format_interval(left)}")
        if self._terminal and self._bar is not None:
            self._bar.n = images
            self._bar.set_description_str("; ".join(parts), refresh=False)
            self._bar.refresh()
        else:
            print(f"images {images}/{self._total}: {'; '.join(parts)}", file=sys.stderr, flush=True)

    def _seconds_left(self, totals: Totals, rate: float) -> float | None:
        images_left = self._total - self._before.images - totals.images
        if not images_left:
            return 0.0
        if totals.images < ENOUGH:
            each = float(self._plan.max_votes)
        else:
            each = totals.finished_votes / totals.images
        begun = totals.votes - totals.finished_votes
        return max(images_left * each - begun, 0.0) / rate if rate else None
