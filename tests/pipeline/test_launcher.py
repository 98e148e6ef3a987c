"""Who started a process is told by its environment; half a launcher is refused, not waited for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch.plugins.environments import LightningEnvironment, SLURMEnvironment

from diffsmooth.lit.stopping import PARENT
from diffsmooth.pipeline.trainer import Launched, find_launcher, slurm_environment
from diffsmooth.stats.errors import UserError

TORCHRUN = {"TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1"}
STEP = {"SLURM_STEP_ID": "0", "SLURM_PROCID": "1", "SLURM_LOCALID": "1", "SLURM_NODEID": "0"}
SRUN = {"SLURM_NTASKS": "2", **STEP}
HANDS = {"LOCAL_RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "h", "MASTER_PORT": "1"}


@pytest.mark.parametrize(
    ("variables", "devices", "num_nodes", "expected"),
    [
        ({}, 2, 1, Launched.BY_US),
        ({PARENT: "7", "LOCAL_RANK": "1", "WORLD_SIZE": "2"}, 2, 1, Launched.BY_US),
        (TORCHRUN, 2, 1, Launched.BY_TORCHRUN),
        (TORCHRUN, 1, 2, Launched.BY_TORCHRUN),
        ({**SRUN, **TORCHRUN}, 2, 1, Launched.BY_TORCHRUN),  # torchrun under srun
        (SRUN, 2, 1, Launched.BY_SRUN),
        (HANDS, 2, 1, Launched.BY_HAND),
        # One task of a batch script, or a shell's place: --devices starts the processes.
        ({"SLURM_NTASKS": "1"}, 2, 1, Launched.BY_US),
        ({"SLURM_NTASKS": "4", "SLURM_JOB_NAME": "bash"}, 2, 1, Launched.BY_US),
        # salloc's own step is a shell's place; srun's in it are processes, `srun --pty` is a shell.
        ({**SRUN, "SLURM_JOB_NAME": "interactive"}, 2, 1, Launched.BY_SRUN),
        ({**SRUN, "SLURM_JOB_NAME": "bash", "SLURM_PTY_PORT": "1"}, 2, 1, Launched.BY_US),
        ({**SRUN, "SLURM_JOB_NAME": "bash", "SLURM_NTASKS": "1"}, 2, 1, Launched.BY_US),
        ({**HANDS, "WORLD_SIZE": "4", "NODE_RANK": "1", "RANK": "3"}, 2, 2, Launched.BY_HAND),
        # Each host's first process is started by hand.
        ({"MASTER_ADDR": "h", "MASTER_PORT": "1", "NODE_RANK": "1"}, 2, 2, Launched.BY_US),
    ],
)
def test_a_launcher_is_known_by_its_variables(
    variables: dict[str, str], devices: int, num_nodes: int, expected: Launched
) -> None:
    assert find_launcher(variables, devices, num_nodes) is expected


@pytest.mark.parametrize(
    ("variables", "devices", "num_nodes", "message"),
    [
        # In an allocation of two tasks, without srun: Lightning waits for the second for ever.
        ({"SLURM_NTASKS": "2"}, 2, 1, "put srun before the command"),
        ({"SLURM_NTASKS": "2"}, 1, 1, "put srun before the command"),
        ({"SLURM_NTASKS": "2", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0"},
         2, 1, "put srun before the command"),  # as sbatch sets them
        ({**SRUN, "SLURM_STEP_ID": "4294967290"}, 2, 1, "put srun"),  # salloc's interactive step
        ({"SLURM_NTASKS": "two"}, 2, 1, "SLURM_NTASKS must be a number, got 'two'"),
        (SRUN, 3, 1, "the launcher started 2 processes, but devices x num_nodes is 3 x 1"),
        (TORCHRUN, 1, 1, "the launcher started 2 processes, but devices x num_nodes is 1 x 1"),
        (HANDS, 1, 1, "the launcher started 2 processes"),
        ({"WORLD_SIZE": "2"}, 1, 1, "WORLD_SIZE is '2', but neither torchrun nor srun"),
        ({"WORLD_SIZE": "x", "RANK": "0"}, 1, 1, "WORLD_SIZE is 'x'"),
        ({"LOCAL_RANK": "0"}, 2, 1, "not WORLD_SIZE, MASTER_ADDR, MASTER_PORT: unset it"),
        ({**HANDS, "WORLD_SIZE": "4"}, 2, 2, "set NODE_RANK on each host"),
        ({**HANDS, "WORLD_SIZE": "4", "NODE_RANK": "1", "RANK": "1"}, 2, 2, "LOCAL_RANK 1 is 3"),
        ({**HANDS, "NODE_RANK": "x"}, 2, 1, "NODE_RANK must be a number, got 'x'"),
        ({}, 2, 2, "set MASTER_ADDR, MASTER_PORT, NODE_RANK on each"),
    ],
)  # fmt: skip
def test_what_would_wait_for_ever_is_refused(
    variables: dict[str, str], devices: int, num_nodes: int, message: str
) -> None:
    with pytest.raises(UserError, match=message.replace("(", r"\(")):
        find_launcher(variables, devices, num_nodes)


@pytest.mark.parametrize(
    ("variables", "missing"),
    [
        *((TORCHRUN, name) for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK")),
        *((SRUN, name) for name in ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID")),
        *((HANDS, name) for name in ("WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")),
    ],
)
def test_half_a_launcher_is_refused_by_what_is_missing(
    variables: dict[str, str], missing: str
) -> None:
    rest = {name: value for name, value in variables.items() if name != missing}
    with pytest.raises(UserError, match=missing):
        find_launcher(rest, 2, 1)


WITHIN = {"SLURM_JOB_NAME": "interactive"}


@pytest.mark.parametrize(
    ("variables", "expected"),
    [({}, type(None)), ({"SLURM_NTASKS": "1"}, LightningEnvironment), (SRUN, type(None)),
     ({"SLURM_NTASKS": "4"}, type(None)), ({"SLURM_NTASKS": "1", **STEP}, type(None)),
     ({"SLURM_NTASKS": "1", **TORCHRUN}, type(None)), ({**SRUN, **WITHIN}, SLURMEnvironment),
     ({**SRUN, **WITHIN, **TORCHRUN}, type(None)), ({"SLURM_NTASKS": "1", **WITHIN}, type(None)),
     ({**SRUN, **WITHIN, "SLURM_PTY_PORT": "1"}, type(None))],
)  # fmt: skip
def test_where_lightning_would_mistake_slurm_a_training_does_not(
    variables: dict[str, str], expected: type
) -> None:
    assert type(slurm_environment(variables)) is expected


@given(
    st.dictionaries(
        st.sampled_from(
            sorted({*TORCHRUN, *SRUN, *HANDS, "NODE_RANK", "SLURM_JOB_NAME", "SLURM_PTY_PORT"})
        ),
        st.sampled_from(["0", "1", "2", "", "x", "-1", "2(x2)"]),
    ),
    st.integers(1, 3),
    st.integers(1, 2),
)
def test_any_environment_is_known_or_refused(
    variables: dict[str, str], devices: int, num_nodes: int
) -> None:
    try:
        launched = find_launcher(variables, devices, num_nodes)
    except UserError:
        return
    if launched in (Launched.BY_TORCHRUN, Launched.BY_HAND):
        assert int(variables["WORLD_SIZE"]) == devices * num_nodes
    if launched is Launched.BY_SRUN:
        assert int(variables["SLURM_NTASKS"]) == devices * num_nodes
