"""One process at a time downloads a dataset; the others then find it."""

from pathlib import Path

from filelock import BaseFileLock, FileLock


def download_lock(root: Path) -> BaseFileLock:
    """A lock that the processes of one host, or of a shared file system, hold in turn."""
    root.mkdir(parents=True, exist_ok=True)
    return FileLock(root / ".download.lock")
