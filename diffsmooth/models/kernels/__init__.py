"""Operations of our own on GPUs, by Triton. Nothing here imports it where there is no GPU."""
