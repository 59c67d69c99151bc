"""Services and folders of test runs that were killed."""

import contextlib
import shutil
from pathlib import Path

import psutil


def remove_leftovers() -> None:
    """Stops the services and removes the home of every earlier run whose process is gone."""
    from tissueboard.embedded import postgres, redis

    for home in Path("/tmp").glob("tissueboard-test-*-*"):
        number = home.name.split("-")[2]
        if not number.isdigit() or psutil.pid_exists(int(number)):
            continue
        with contextlib.suppress(Exception):
            postgres.stop(home)
            redis.stop(home)
        shutil.rmtree(home, ignore_errors=True)
