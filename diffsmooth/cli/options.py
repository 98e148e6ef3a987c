"""The options that `certify` and `predict` share: what is smoothed, and on what it runs."""

from typing import Literal

from jsonargparse import ActionYesNo, ArgumentParser

from diffsmooth.cli.network_options import DATASETS, add_voting_options
from diffsmooth.models.smoothing.engine import IN_FLIGHT


def add_options(parser: ArgumentParser, batch: int, skip: int, n: int) -> None:
    """Adds the shared options, with the command's own defaults."""
    required: tuple[tuple[str, type, str], ...] = (
        ("dataset", str, DATASETS),
        ("classifier", str, "checkpoint of the base classifier"),
        ("sigma", float, "noise level, standard deviation in [0, 1] pixel units"),
        ("outfile", str, "table to write; its journal, manifest and figure lie beside it"),
    )
    for name, kind, text in required:
        # Both forms share one value: the seed's positional line, and a config with overrides.
        parser.add_argument(name, type=kind, help=text)
        parser.add_argument(f"--{name}", type=kind, help=f"the same as the positional {name}")
    parser.add_argument("--config", action="config", help="YAML file with any of the options")

    add = parser.add_argument
    add("--skip", type=int, default=skip, help="take every skip-th image")
    add("--max", type=int, default=-1,
        help="stop before this index of the dataset (an index, not a number of images); -1: no "
        "stop. The published loops stop only where it is a multiple of --skip")  # fmt: skip
    add("--split", type=str, default="test", help="train or test")
    add("--m", type=int, default=5, help="local copies a vote")
    add("--local_noise_sd", "--sigma_local", dest="local_noise_sd", type=float, default=0.25,
        help="noise of the local copies, standard deviation in [0, 1] pixel units")  # fmt: skip
    add_voting_options(parser, batch, n)
    add("--compile", type=bool | Literal["auto"], nargs="?", const=True, default="auto",
        help="compile the networks: true, false, or auto, by the votes ahead")  # fmt: skip
    add("--in_flight", type=int, default=IN_FLIGHT,
        help="images at once on a device, at most; changes no result")  # fmt: skip
    add("--threads", type=int | None, default=None,
        help="CPU threads a process; by default cores / processes on this host")  # fmt: skip
    add("--accelerator", type=str, default="auto", help="Lightning's: auto, cpu, gpu, ...")
    add("--devices", type=int, default=1, help="processes on this host, one a device")
    add("--num_nodes", type=int, default=1, help="hosts")
    add("--shard", type=str | None, default=None,
        help="I/K: do the I-th of K parts of the images (1/K to K/K), beside other processes "
        "with the same OUTFILE; `diffsmooth merge OUTFILE` writes the table")  # fmt: skip
    add("--logdir", type=str, default="logs", help="folder of the TensorBoard events")
    add("--overwrite", action=ActionYesNo, default=False,
        help="replace the files of a different run; the run's own are kept")  # fmt: skip
