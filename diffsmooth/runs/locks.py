"""Locks on a run's files: one process at a time, or shards side by side."""

import fcntl
import os

from diffsmooth.runs.names import OutputError, OutputFiles


class Locks:
    """Locks of this process, files among the run's parts; they end with the process.

    Args:
        files: of the run.
    """

    def __init__(self, files: OutputFiles) -> None:
        self._files = files
        self._handles: dict[str, int] = {}

    def take(self, name: str, kind: int, wait: bool = False) -> None:
        """Takes a lock, or changes its kind.

        Args:
            name: of the lock's file, see `LOCK`.
            kind: LOCK_EX of one process, or LOCK_SH of many.
            wait: whether to wait until others let it go.

        Raises:
            OutputError: others hold it; then this process holds none any more.
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
            self.release()
            raise OutputError(f"{self._files.table}: another process is at work on it")

    def drop(self, name: str) -> None:
        """Lets one go."""
        os.close(self._handles.pop(name))

    def release(self) -> None:
        """Lets all go."""
        for name in list(self._handles):
            self.drop(name)
