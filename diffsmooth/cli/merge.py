"""`diffsmooth merge`: the table of a run whose shards have done all images."""

from dataclasses import dataclass
from pathlib import Path

from diffsmooth.cli.errors import make_room, user_errors
from diffsmooth.cli.options import read_options
from diffsmooth.pipeline.option_checks import check_logger
from diffsmooth.pipeline.option_records import OptionRecord, option, required
from diffsmooth.runs.names import OutputFiles


@dataclass(frozen=True, kw_only=True)
class MergeOptions(OptionRecord):
    """Which run."""

    outfile: str = required("the OUTFILE that the shards were given")
    logdir: str = option("logs", "folder of what the results are logged to")
    logger: list[str] = option(["tensorboard"], "what they are logged to, as for certify: "
        "shards log nothing", check=check_logger)  # fmt: skip


EXAMPLES = ("OUT.txt",)


def main(args: list[str] | None = None, prog: str = "diffsmooth merge") -> None:
    """Runs the command on `args`, by default the process's."""
    options = read_options(MergeOptions, args, prog, __doc__, examples=EXAMPLES)
    # What follows imports pandas and matplotlib, which take a second.
    from diffsmooth.cli.run import report_failures
    from diffsmooth.pipeline.merge import merge
    from diffsmooth.pipeline.publish import prediction_closing, publish

    with user_errors(prog):
        files = OutputFiles(options.outfile)
        identity, records = merge(files)
        if identity.command == "predict":
            print(prediction_closing(files, records).text)
        else:
            make_room()
            publish(files, [], Path(options.logdir), loggers=options.logger)
    report_failures(prog, records, "the command of their shard")
