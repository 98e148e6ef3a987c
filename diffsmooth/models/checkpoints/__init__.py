"""Checkpoints: safe reading, recognising formats, fitting weights, writing."""
