"""What a shell offers where a line of `diffsmooth` goes on."""

import os
import subprocess
import sys

import pytest

# As bash does it after `eval "$(register-python-argcomplete diffsmooth)"`: the words come by
# handle 8.
SCRIPT = 'exec "$0" -m diffsmooth 8>&1 9>/dev/null 1>/dev/null 2>/dev/null'


@pytest.mark.parametrize(
    ("line", "among"),
    [
        ("diffsmooth ", {"certify", "train", "report"}),
        ("diffsmooth cer", {"certify"}),
        ("diffsmooth certify --sig", {"--sigma_local"}),
        ("diffsmooth certify --dev", {"--devices"}),
        ("diffsmooth bench --prof", {"--profile"}),
        ("diffsmooth train ", {"fit", "validate", "test"}),
        ("diffsmooth train fit --data.bat", {"--data.batch_size"}),
    ],
)
def test_the_shell_is_offered_what_there_is(line: str, among: set[str]) -> None:
    asked = {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\n", "_ARGCOMPLETE_SHELL": "bash",
             "COMP_LINE": line, "COMP_POINT": str(len(line)), "COMP_TYPE": "9"}  # fmt: skip
    done = subprocess.run(
        ["bash", "-c", SCRIPT, sys.executable],
        env=os.environ | asked, capture_output=True, text=True, check=False,
    )  # fmt: skip
    offered = {word.strip() for word in done.stdout.splitlines()}
    assert among <= offered, done
    last = line.rpartition(" ")[2]
    assert all(word.startswith(last) for word in offered)
