"""PSNR of the study's denoiser, beside the noisy image and the best Gaussian filter.

    python docs/studies/cifar10/psnr.py IMAGES.npz [COUNT]

IMAGES.npz: `images` uint8 (N, 32, 32, 3); COUNT of them, evenly spaced (300). The mean of the images'
PSNR in dB, values in [0, 1]; noise of sigma 0.25 and 0.50, seed 0. The filter's width is the best on
these very images, of 0.4 to 3.0 pixels in steps of 0.1: a bound of what such a filter can.
"""

import sys

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

import diffsmooth

UNET = "checkpoints/cifar10_diffusion.pt"


def psnr(images: np.ndarray, clean: np.ndarray) -> float:
    error = ((images - clean) ** 2).mean(axis=(1, 2, 3))
    return float((-10 * np.log10(error)).mean())


def main(path: str, count: int) -> None:
    images = np.load(path)["images"]
    clean = images[:: max(1, len(images) // count)][:count].transpose(0, 3, 1, 2) / 255.0
    denoiser = diffsmooth.load_denoiser(UNET)
    print(f"{path}: {len(clean)} of {len(images)} images")
    for sigma in (0.25, 0.5):
        normal = np.random.default_rng(0).standard_normal(clean.shape)
        noisy = (clean + sigma * normal).astype(np.float32)
        widths = np.arange(4, 31) / 10
        filtered = [psnr(gaussian_filter(noisy, (0, 0, w, w)), clean) for w in widths]
        best = int(np.argmax(filtered))
        with torch.inference_mode():
            batches = torch.from_numpy(noisy).split(50)
            purified = torch.cat([denoiser(batch, sigma) for batch in batches]).numpy()
        print(
            f"sigma {sigma}: noisy {psnr(noisy, clean):.1f}, Gaussian filter {filtered[best]:.1f} "
            f"({widths[best]:.1f} pixels), U-Net {psnr(purified, clean):.1f} dB"
        )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 300)
