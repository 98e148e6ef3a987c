"""U-Nets with live weights, whose group norms are fused: for tests of the fused form."""

import copy

from diffsmooth.golden.fill import fill
from diffsmooth.models import build_unet
from diffsmooth.models.diffusion.unet import UNet
from diffsmooth.models.smoothing.fused_norm import fuse_norms
from diffsmooth.pipeline.self_test import SMALL_UNETS


def unets(family: str) -> tuple[UNet, UNet]:
    """One with live weights, and the same with fused norms."""
    preset, overrides = SMALL_UNETS[family]
    unet = build_unet(preset, **overrides).eval()
    unet.load_state_dict(fill(unet.state_dict()))
    fused = copy.deepcopy(unet)
    fuse_norms(fused)
    return unet, fused
