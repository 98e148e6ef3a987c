"""Floor 2: the files of a run. One reader and one writer of each; needs NumPy at most."""
