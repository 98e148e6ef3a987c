"""What listens to a certification."""

from typing import TYPE_CHECKING

import lightning.pytorch as pl

from diffsmooth.stats import ImageRecord

if TYPE_CHECKING:
    from diffsmooth.lit.certification.module import CertificationModule


class CertificationCallback(pl.Callback):
    """A callback that is told of images as they finish, each on the rank that certified it.

    Lightning's hooks tell of images as they go in; they come out later and in another order, the
    last ones after the last batch (so that a `BasePredictionWriter` would miss them). All of all
    ranks are out when `on_predict_end` is called.
    """

    def on_image_finished(
        self, trainer: pl.Trainer, module: "CertificationModule", record: ImageRecord
    ) -> None:
        """An image has its certificate, or the error that it raised."""

    def on_votes(self, trainer: pl.Trainer, module: "CertificationModule") -> None:
        """Some votes were cast, or the other ranks are waited for; may raise to end the run."""
