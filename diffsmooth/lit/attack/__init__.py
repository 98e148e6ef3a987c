"""Attacks on a certified run, as a run of predictions on attacked images."""

from diffsmooth.lit.attack.images import AttackedImages, Target, Try
from diffsmooth.lit.attack.module import AttackModule

__all__ = ["AttackModule", "AttackedImages", "Target", "Try"]
