"""What a door imports before it knows what is wanted: nothing that takes long."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
# A process each, as only a new one imports anew. No times: they are the machine's.
OPEN = """
import json, sys
from diffsmooth.cli.main import main

sys.argv = ["diffsmooth", *sys.argv[1:]]
try:
    main()
    code = 0
except SystemExit as end:
    code = end.code or 0
print("\\n" + json.dumps([code, sorted(name for name in sys.modules if "." not in name)]))
"""
SLOW = {
    "lightning", "matplotlib", "pandas", "scipy", "tensorboard", "timm", "torch", "torchmetrics",
    "torchvision",
}  # fmt: skip


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("", 0, "usage: diffsmooth COMMAND ..."),
        ("--version", 0, "."),
        ("certfy", 2, "unknown command 'certfy'"),
        ("train --help", 0, "usage: diffsmooth train"),
        ("train fit --help", 0, "usage: diffsmooth train fit [options]"),
        ("train fti", 2, "unknown subcommand 'fti'"),
        ("train fit -c no.yaml", 2, "no.yaml: no such config"),
        ("train validate --ckpt_path no.ckpt", 2, "no.ckpt: no such checkpoint"),
    ],
)
def test_doors_answer_without_what_is_slow(line: str, code: int, said: str) -> None:
    words = [sys.executable, "-c", OPEN, *line.split()]
    done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True)
    ended, imported = json.loads(done.stdout.splitlines()[-1])
    assert said in done.stdout + done.stderr
    assert ended == code
    assert not SLOW & set(imported)


ENDING = """
import atexit, os, signal, sys, time
from diffsmooth.cli.main import main

def struck():
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(10)

atexit.register(struck)
sys.argv = ["diffsmooth", "--version"]
main()
"""


def test_ctrl_c_at_the_end_of_a_process_is_no_traceback() -> None:
    done = subprocess.run([sys.executable, "-c", ENDING], capture_output=True, text=True)
    assert done.returncode == -signal.SIGINT
    assert done.stderr == ""
