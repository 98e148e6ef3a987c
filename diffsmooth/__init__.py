"""DiffSmooth: certified robustness by diffusion purification and local smoothing."""

__version__ = "0.3.0"
