"""Floor 4: what commands and notebooks share, from a specification to a finished run."""
