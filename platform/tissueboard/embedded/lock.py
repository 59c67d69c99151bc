"""Locks between processes that share a home folder. The kernel drops them when a process dies, even by kill -9."""

import contextlib
import fcntl
from collections.abc import Callable, Iterator
from pathlib import Path


def _open(home: Path, name: str):
    folder = Path(home) / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    return open(folder / f"{name}.lock", "a")


@contextlib.contextmanager
def exclusive(home: Path, name: str) -> Iterator[None]:
    """One process at a time starts or stops a service."""
    with _open(home, name) as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


class Lease:
    """Held by every process that uses the services; whoever lets go last may stop them."""

    def __init__(self, home: Path) -> None:
        self._handle = _open(home, "users")
        fcntl.flock(self._handle, fcntl.LOCK_SH)

    def release(self, when_last: Callable[[], None]) -> None:
        """Let go; where nobody else holds the lease, call `when_last` while newcomers wait."""
        with self._handle:
            try:
                fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            when_last()
