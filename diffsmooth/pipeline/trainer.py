"""The Lightning trainer of a certification or prediction run."""

import logging
import os
import warnings
from datetime import timedelta

import lightning.pytorch as pl

from diffsmooth.lit.launching import RankStrategy
from diffsmooth.lit.stopping import end_with_parent
from diffsmooth.pipeline.launcher import Launched, find_launcher
from diffsmooth.pipeline.specification import SmoothingOptions
from diffsmooth.stats.errors import UserError, option_values

PROCESSES_A_CORE = 4  # more would only be in each other's way
ONE_RUN = timedelta(days=30)  # ranks may end hours apart


def build_trainer(options: SmoothingOptions) -> pl.Trainer:
    """A trainer for `trainer.predict` on the devices that the options ask for.

    Raises:
        UserError: devices that are not there, or not those that a launcher started.
    """
    # Lightning's remarks about itself.
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", ".*(LeafSpec|across ranks is zero).*")
    launched = find_launcher(os.environ, options.devices, options.num_nodes)
    end_with_parent(launched is not Launched.BY_US)
    if options.accelerator == "cpu":
        check_processes(options.devices)
    strategy: RankStrategy | str = "auto"
    if options.devices * options.num_nodes > 1:  # by gloo: what they tell each other are objects
        strategy = RankStrategy(process_group_backend="gloo", timeout=ONE_RUN)
    try:
        with option_values():
            environment = launched.environment()
            if environment is not None:
                environment.validate_settings(options.devices, options.num_nodes)
            return pl.Trainer(
                accelerator=options.accelerator,
                devices=options.devices,
                num_nodes=options.num_nodes,
                strategy=strategy,
                plugins=None if environment is None else [environment],
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,  # ours is of the whole job
            )
    except (RuntimeError, ImportError, pl.utilities.exceptions.MisconfigurationException) as error:
        raise UserError(str(error)) from error


def check_processes(devices: int) -> None:
    """Raises UserError for more processes than the cores of this host have room for."""
    most = PROCESSES_A_CORE * threads_a_process(1)
    if devices > most:
        raise UserError(f"devices must be at most {most} on the cores of this host, got {devices}")


def threads_a_process(processes: int) -> int:
    """The cores of this host that we may use, shared among its processes."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, cores // processes)
