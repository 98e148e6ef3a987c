"""Locks on a run's files: one process at a time, or shards side by side."""

import fcntl
import os

from diffsmooth.runs.names import OutputError, OutputFiles


class Locks:
    """Locks of this process on the files of a run; they end with the process."""

    def __init__(self, files: OutputFiles) -> None:
        self._files = files
        self._handles: dict[str, int] = {}

    def take(self, name: str, kind: int, wait: bool = False) -> None:
        """Takes a lock, or changes its kind: LOCK_EX of one process, or LOCK_SH of many.

        Raises:
            OutputError: others hold it, and there is no waiting; all locks are let go.
        """
        path = self._files.parts / name
        handle = self._handles.get(name)
        if handle is None:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
            handle = self._handles[name] = os.open(path, flags, 0o644)
        try:
            fcntl.flock(handle, kind if wait else kind | fcntl.LOCK_NB)
            # A run that ended in between has removed the folder, and this file with it.
            ours = path.exists() and os.path.samestat(os.fstat(handle), path.stat())
        except BlockingIOError:
            ours = False
        if not ours:
            self.drop()
            raise OutputError(f"{self._files.table}: another process is at work on it")

    def drop(self, *names: str) -> None:
        """Lets some go, or all."""
        for name in names or tuple(self._handles):
            os.close(self._handles.pop(name))
