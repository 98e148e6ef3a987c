"""The Lightning trainer of a certification or prediction run, and who starts its processes.

That is torchrun, SLURM's srun, the user by hand, or nobody but the user. A launcher is known by the
environment variables that it sets. Half a set of them makes Lightning wait for processes that
nobody starts, so that is refused.
"""

import os
import warnings
from collections.abc import Mapping
from datetime import timedelta
from enum import Enum

import lightning.pytorch as pl
from lightning.fabric.plugins.environments import ClusterEnvironment, TorchElasticEnvironment
from lightning.pytorch.plugins.environments import LightningEnvironment, SLURMEnvironment

from diffsmooth.lit.launching import RankStrategy
from diffsmooth.lit.saying import silence_lightning
from diffsmooth.lit.stopping import end_with_parent, is_started_by_us
from diffsmooth.models.smoothing.host import usable_cores
from diffsmooth.pipeline.specification import SmoothingOptions
from diffsmooth.stats.errors import UserError, option_values

INTERACTIVE = ("bash", "interactive")  # SLURM's job names where it may be only a shell's place
NO_STEP = 0xFFFFFFF0  # step numbers from here on are those of batch scripts and shells
BY_HAND = ("LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
PROCESSES_A_CORE = 4  # more would only be in each other's way
ONE_RUN = timedelta(days=30)  # ranks may end hours apart


def build_trainer(options: SmoothingOptions) -> pl.Trainer:
    """A trainer for `trainer.predict` on the devices that the options ask for.

    Raises:
        UserError: devices that are not there, or not those that a launcher started.
    """
    silence_lightning()
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
    return max(1, usable_cores() // processes)


class Launched(Enum):
    """Who starts the ranks of the job."""

    BY_TORCHRUN = "torchrun"
    BY_SRUN = "srun"
    BY_HAND = "by hand"
    BY_US = "by us"

    def environment(self) -> ClusterEnvironment | None:
        """Lightning's word for it; None to let it look for launchers that we do not know."""
        if self is Launched.BY_TORCHRUN:
            return TorchElasticEnvironment()
        if self is Launched.BY_SRUN:
            # Rerunning is by the batch script; Lightning would requeue in mid-prediction.
            return SLURMEnvironment(auto_requeue=False)
        ours = self is Launched.BY_HAND or SLURMEnvironment.detect()
        return LightningEnvironment() if ours else None


def find_launcher(variables: Mapping[str, str], devices: int, num_nodes: int) -> Launched:
    """Who started this process, or starts the others.

    Args:
        variables: the environment variables.
        devices, num_nodes: processes a host, and hosts, as the options say.

    Raises:
        UserError: half a launcher's variables, or another number of processes.
    """
    wanted = devices * num_nodes
    if "TORCHELASTIC_RUN_ID" in variables:
        launched = Launched.BY_TORCHRUN
        started = _numbers(variables, "torchrun", "WORLD_SIZE", "RANK", "LOCAL_RANK")[0]
    elif "LOCAL_RANK" in variables and is_started_by_us(variables):
        return Launched.BY_US  # one of the others, which is started like the first
    elif "SLURM_NTASKS" in variables and not _is_a_shells_place(variables):
        launched = Launched.BY_SRUN
        (started,) = _numbers(variables, "SLURM", "SLURM_NTASKS")
        if _is_a_step(variables):
            _numbers(variables, "srun", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID")
        elif started > 1:
            raise UserError(
                f"SLURM has room for {started} processes here (SLURM_NTASKS), but srun did not "
                "start this one: put srun before the command, or unset SLURM_NTASKS to let "
                "--devices start them"
            )
        else:
            return _alone(variables, wanted, num_nodes)
    elif "LOCAL_RANK" in variables:
        if missing := [name for name in BY_HAND if name not in variables]:
            raise UserError(
                f"LOCAL_RANK is set, but not {', '.join(missing)}: unset it, or start the "
                "processes by torchrun or srun"
            )
        launched = Launched.BY_HAND
        started, local = _numbers(variables, "", "WORLD_SIZE", "LOCAL_RANK")
        _check_place(variables, devices, num_nodes, local)
    else:
        return _alone(variables, wanted, num_nodes)
    if started != wanted:
        raise UserError(
            f"the launcher started {started} processes, but devices x num_nodes is "
            f"{devices} x {num_nodes}: set --devices and --num_nodes to match"
        )
    return launched


def slurm_environment(variables: Mapping[str, str]) -> ClusterEnvironment | None:
    """A training's environment in SLURM, where Lightning would mistake it; None elsewhere.

    It takes a batch script of one task for a process of srun's, and starts nobody; and srun's
    processes within salloc for a shell, so that each would train for itself.
    """
    if "TORCHELASTIC_RUN_ID" in variables or "SLURM_NTASKS" not in variables:
        return None
    if _is_a_shells_place(variables):
        return None
    if not _is_a_step(variables):
        return LightningEnvironment() if variables["SLURM_NTASKS"] == "1" else None
    return SLURMEnvironment() if variables.get("SLURM_JOB_NAME") in INTERACTIVE else None


def _is_a_step(variables: Mapping[str, str]) -> bool:
    """Whether srun started this process: it alone numbers the steps of a job."""
    step = variables.get("SLURM_STEP_ID", variables.get("SLURM_STEPID", ""))
    return step.isdigit() and int(step) < NO_STEP


def _is_a_shells_place(variables: Mapping[str, str]) -> bool:
    """Whether SLURM's variables are those of a shell (salloc, `srun --pty bash`), not of srun's."""
    if variables.get("SLURM_JOB_NAME") not in INTERACTIVE:
        return False
    several = variables.get("SLURM_NTASKS") != "1" and "SLURM_PTY_PORT" not in variables
    return not (_is_a_step(variables) and several)


def _check_place(variables: Mapping[str, str], devices: int, num_nodes: int, local: int) -> None:
    """Raises UserError for a process started by hand that does not say, or not well, who it is."""
    node = variables.get("NODE_RANK", variables.get("GROUP_RANK"))
    if num_nodes > 1 and node is None:
        raise UserError(f"num_nodes is {num_nodes}: set NODE_RANK on each host, from 0")
    if node is not None and not node.isdigit():
        raise UserError(f"NODE_RANK must be a number, got {node!r}")
    place = devices * int(node or 0) + local
    if (said := variables.get("RANK", str(place))) != str(place):
        raise UserError(
            f"RANK is {said!r}, but NODE_RANK {node or 0} x devices {devices} + LOCAL_RANK {local} "
            f"is {place}"
        )


def _alone(variables: Mapping[str, str], wanted: int, num_nodes: int) -> Launched:
    """No launcher: the processes of this host are started by us, those of other hosts by hand."""
    said = variables.get("WORLD_SIZE", "1")
    if said not in ("1", str(wanted)):
        raise UserError(
            f"WORLD_SIZE is {said!r}, but neither torchrun nor srun started this process: unset "
            "it, or start the processes by one of them"
        )
    missing = [n for n in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK") if n not in variables]
    if num_nodes > 1 and missing:
        raise UserError(
            f"num_nodes is {num_nodes}, but nothing says where the others are: start the processes "
            f"by torchrun or srun, or set {', '.join(missing)} on each"
        )
    return Launched.BY_US


def _numbers(variables: Mapping[str, str], launcher: str, *names: str) -> list[int]:
    """The values of variables that a launcher sets.

    Raises:
        UserError: one is missing, or not a number.
    """
    for name in names:
        value = variables.get(name)
        if value is None:
            raise UserError(
                f"{name} is not set, though {launcher} seems to have started this process: start "
                "it anew by its launcher, or unset the launcher's variables"
            )
        if not value.isdigit():
            raise UserError(f"{name} must be a number, got {value!r}")
    return [int(variables[name]) for name in names]
