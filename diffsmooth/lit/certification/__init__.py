"""Certification as a LightningModule, and callbacks for what a run does beside its votes."""

from diffsmooth.lit.certification.module import CertificationCallback, CertificationModule
from diffsmooth.lit.certification.preparation import Preparation
from diffsmooth.lit.certification.progress import Progress
from diffsmooth.lit.certification.run_keeper import RunKeeper
from diffsmooth.lit.certification.stop_on_sigterm import StopOnSigterm

__all__ = [
    "CertificationCallback",
    "CertificationModule",
    "Preparation",
    "Progress",
    "RunKeeper",
    "StopOnSigterm",
]
