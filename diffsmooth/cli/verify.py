"""`diffsmooth verify`: do the numbers of a finished run follow from its votes?"""

from diffsmooth.cli.errors import user_errors
from diffsmooth.cli.options import read_options
from diffsmooth.pipeline.verify_specification import VerifyOptions
from diffsmooth.terminal import for_terminal

DESCRIPTION = """Computes every bound and radius of a finished run again, by another implementation
than the one that wrote them, and checks digests, checksums, that no image is missing or stands
twice, and that the table is what the journal gives. One line a run; exit code 1 unless all hold."""
DOES_NOT_HOLD = 1
EXAMPLES = ("OUT.txt --replay 3", "THEIRS.tsv --n 100000 --alpha 0.001 --sigma 0.5")


def main(args: list[str] | None = None, prog: str = "diffsmooth verify") -> None:
    """Runs the command on `args`, by default the process's."""
    options = read_options(VerifyOptions, args, prog, DESCRIPTION, examples=EXAMPLES)
    from diffsmooth.pipeline.verify import verify  # only now: SciPy takes a second

    all_hold = True
    with user_errors(prog):
        for verdict in verify(options):
            print(for_terminal(str(verdict)), flush=True)
            all_hold = all_hold and verdict.holds
    if not all_hold:
        raise SystemExit(DOES_NOT_HOLD)
