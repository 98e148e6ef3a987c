"""Where a training's logs lie: what its words and configs leave unsaid is completed."""

from pathlib import Path

from jsonargparse import Namespace

from diffsmooth.cli.errors import load_tree
from diffsmooth.lit.training.logs import UNSAID

OURS = "diffsmooth.lit.training.logs.TrainingLogs"
LOGS = dict.fromkeys(("save_dir", "name", "version"), UNSAID)


def name_logs(config: Namespace, words: list[str]) -> None:
    """Completes our logger; without a name, it becomes Lightning's own, of numbered runs.

    The parser hands our logger's values on to a logger of the user's: what is unsaid goes.

    Args:
        config: the subcommand's, changed in place.
        words: of the command line.
    """
    stems = [Path(str(path)).stem for path in config.get("config") or [] if path]
    loggers = config.trainer.logger
    for logger in loggers if isinstance(loggers, list) else [loggers]:
        said = getattr(logger, "init_args", None)
        if said is None:
            continue
        unsaid = [key for key in LOGS if said.get(key) == UNSAID]
        if logger.class_path == OURS:
            name = config.name or next(iter(stems), None)
            if name is None and len(unsaid) == len(LOGS):
                config.trainer.logger = None
                return
            defaults = {"save_dir": "logs", "name": name, "version": ""}
            said.update(Namespace({key: defaults[key] for key in unsaid}))
        else:
            for key in unsaid:
                del said[key]
        if config.name and "name" in said and _name_is_said_last(config, words):
            said["name"] = config.name


def _name_is_said_last(config: Namespace, words: list[str]) -> bool:
    """Whether `name` is said later than a name of the logger's."""
    for flag, answer in (("--name", True), ("--trainer.logger", False)):
        if any(word.partition("=")[0].startswith(flag) for word in words):
            return answer
    for path in reversed(config.get("config") or []):
        said = (load_tree(Path(str(path)).read_text()) if path else None) or {}
        logger = (said.get("trainer") or {}).get("logger")
        if isinstance(logger, dict) and "name" in (logger.get("init_args") or {}):
            return False
        if said.get("name"):
            return True
    return True
