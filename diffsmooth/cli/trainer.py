"""The Lightning trainer of a certification or prediction run."""

import logging
import os
import warnings
from datetime import timedelta

import lightning.pytorch as pl
from lightning.fabric.plugins.environments import TorchElasticEnvironment
from lightning.pytorch.plugins.environments import SLURMEnvironment
from lightning.pytorch.strategies import DDPStrategy

from diffsmooth.cli.options import SmoothingOptions
from diffsmooth.lit.stopping import end_with_parent

ONE_RUN = timedelta(days=30)  # ranks may end hours apart


def build_trainer(options: SmoothingOptions) -> pl.Trainer:
    """A trainer for `trainer.predict` on the devices that the options ask for.

    Raises:
        ValueError: devices that are not there, or not those that a launcher started.
    """
    _hush()
    processes = options.devices * options.num_nodes
    slurm = SLURMEnvironment.detect()
    launched = slurm or TorchElasticEnvironment.detect()
    end_with_parent(launched)
    started = processes
    if launched:
        started = int(os.environ["SLURM_NTASKS" if slurm else "WORLD_SIZE"])
    if started != processes:
        raise ValueError(
            f"the launcher started {started} processes, but devices x num_nodes is "
            f"{options.devices} x {options.num_nodes}: set --devices and --num_nodes to match"
        )
    try:
        return pl.Trainer(
            accelerator=options.accelerator,
            devices=options.devices,
            num_nodes=options.num_nodes,
            strategy=DDPStrategy(process_group_backend="gloo", timeout=ONE_RUN)
            if processes > 1
            else "auto",
            # Rerunning is by the batch script; Lightning would requeue in mid-prediction.
            plugins=[SLURMEnvironment(auto_requeue=False)] if slurm else None,
            use_distributed_sampler=False,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,  # ours is of the whole job
        )
    except (RuntimeError, ImportError, pl.utilities.exceptions.MisconfigurationException) as error:
        raise ValueError(str(error)) from error


def threads_a_process(processes: int) -> int:
    """The cores of this host that we may use, shared among its processes."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, cores // processes)


def _hush() -> None:
    """Keeps Lightning's remarks about itself out of the output."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    warnings.filterwarnings("ignore", ".*LeafSpec.*")
    warnings.filterwarnings("ignore", ".*across ranks is zero.*")
    warnings.filterwarnings("ignore", ".*predict returned None.*")
