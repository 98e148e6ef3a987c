"""The words by which networks and votes are asked for; no torch: options are read at once."""

from typing import Literal

Convention = Literal["diffsmooth", "carlini", "densepure"]
"""How sigma is matched to a timestep, see `match_noise`."""
Pad = Literal["none", "reflect"]
SetName = Literal["raw", "ema"]
"""A set of weights: as trained, or averaged."""
Code = Literal["cohen", "smoothadv-center", "macer"]
"""Whose code reads a classifier's file: that of Cohen et al. 2019 and what follows it; Salman et
al. 2019's with its InputCenterLayer; Zhai et al. 2020's."""
SourceName = Literal["integer", "float", "device"]
"""What makes the votes' noise, see `noise_source`."""
Noise = Literal["auto", "integer", "float", "device"]
Precision = Literal["float32", "tf32", "bf16"]
Kernels = Literal["fixed", "timed"]
"""How CUDA's kernels are chosen: by shapes and hardware, or by timing them at each start."""

IN_FLIGHT = 256  # images, at most; how many there really are follows from the votes they want
USUAL_BATCH = {"certify": 50, "predict": 1000, "attack": 50}  # votes: the published code's
