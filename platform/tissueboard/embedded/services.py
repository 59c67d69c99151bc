"""The embedded services together: which are wanted, start, stop, and borrowing them for one command."""

import contextlib
import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

from tissueboard.embedded.lock import Lease

# Commands that read no data. `run` starts the services itself and keeps them.
WITHOUT_SERVICES = frozenset(
    ("run", "help", "version", "check", "collectstatic", "findstatic", "spectacular", "diffsettings", "startapp", "test", "makemessages")
)


def wanted() -> tuple[bool, bool]:
    """(Postgres, Redis): embedded unless DATABASE_URL, REDIS_URL name a server."""
    return not os.environ.get("DATABASE_URL"), not os.environ.get("REDIS_URL")


def start(home: Path) -> bool:
    """Start what is wanted and does not run. True if anything had to be started."""
    from tissueboard.embedded import postgres, redis

    fresh = False
    for service, needed in zip((postgres, redis), wanted(), strict=True):
        if needed:
            fresh = not service.is_running(home) or fresh
            service.start(home)
    return fresh


def stop(home: Path) -> None:
    """Stop the embedded services, Redis first: what it holds is only a hint, what Postgres holds is the truth."""
    from tissueboard.embedded import postgres, redis

    for service, needed in zip((redis, postgres), reversed(wanted()), strict=True):
        if needed:
            service.stop(home)


@contextlib.contextmanager
def for_command(arguments: Sequence[str]) -> Iterator[None]:
    """Services for the time of one command. Started here, they are stopped here, unless another process uses them by then:
    then the last one stops them. Services that `run` started are left alone, it holds its lease until it stops them."""
    if not any(wanted()) or not arguments or arguments[0].startswith("-") or arguments[0] in WITHOUT_SERVICES or "--help" in arguments:
        yield
        return
    from tissueboard.settings.env import HOME

    lease = Lease(HOME)
    borrowed = HOME / "locks" / "started-by-a-command"

    def hand_back() -> None:
        if borrowed.exists():
            borrowed.unlink()
            stop(HOME)

    previous = signal.signal(signal.SIGTERM, _leave)
    try:
        if start(HOME):
            borrowed.touch()
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
        lease.release(hand_back)


def _leave(signum: int, frame: object) -> None:
    raise SystemExit(128 + signum)
