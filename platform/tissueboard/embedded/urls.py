"""Where the embedded services live and how they are reached: computed from the home folder alone, so that settings can use it.

Nothing is started here and nothing heavy is imported.

Postgres refuses to run as root. When we are root it runs as an unprivileged user (`postgres` if the machine has one, else `nobody`), who
must be able to walk down to the data. Where a parent of the home folder bars the way (a checkout under /root), the data lies under
/var/lib/tissueboard instead: no parent's permissions are ever opened.
"""

import hashlib
import os
import pwd
import stat
from functools import lru_cache
from pathlib import Path

DATABASE = "tissueboard"
SUPERUSER = "tissueboard"
PORT = 5432  # only names the socket file: no TCP port is opened
SOCKET_PATH_LIMIT = 100  # sun_path holds 104 to 108 bytes, depending on the system
SHARED_STATE = Path("/var/lib/tissueboard")


@lru_cache(maxsize=1)
def postgres_user() -> pwd.struct_passwd | None:
    """The account Postgres runs as when we are root; None when it may run as ourselves."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    return None


def reachable(path: Path, user: pwd.struct_passwd | None) -> bool:
    """May `user` walk down to `path`? Parts that do not exist yet count as open; None stands for ourselves."""
    if user is None:
        return True
    for folder in (*reversed(path.parents), path):
        if not folder.exists():
            return True
        info = folder.stat()
        if info.st_uid == user.pw_uid:
            needed = stat.S_IXUSR
        elif info.st_gid == user.pw_gid:
            needed = stat.S_IXGRP
        else:
            needed = stat.S_IXOTH
        if not info.st_mode & needed:
            return False
    return True


def digest(path: Path) -> str:
    return hashlib.sha256(str(path).encode()).hexdigest()[:16]


def postgres_folder(home: Path) -> Path:
    """The data folder of Postgres: where it already is, else in the home folder, else (see above) under /var/lib/tissueboard."""
    home = Path(home).resolve()
    inside, outside = home / "postgres", SHARED_STATE / digest(home) / "postgres"
    if (inside / "PG_VERSION").exists() or not _needs_outside(home):
        return inside
    return outside


def _needs_outside(home: Path) -> bool:
    return not reachable(home.parent, postgres_user())


def _socket_folder(folder: Path, socket_name: str) -> Path:
    """`folder` itself, or a short stand-in under /tmp when the socket's path would be longer than the system allows."""
    if len(os.fsencode(folder / socket_name)) <= SOCKET_PATH_LIMIT:
        return folder
    return Path("/tmp") / f"tissueboard-{digest(folder)}"


def postgres_socket_folder(home: Path) -> Path:
    return _socket_folder(postgres_folder(home), f".s.PGSQL.{PORT}.lock")


def redis_folder(home: Path) -> Path:
    return Path(home).resolve() / "redis"


def redis_socket(home: Path) -> Path:
    return _socket_folder(redis_folder(home), "redis.sock") / "redis.sock"


def database_settings(home: Path) -> dict:
    """The entry of Django's DATABASES for the embedded Postgres.

    Custom plans are forced: a prepared statement would switch to a generic plan that ignores which cohorts are permitted.
    """
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": DATABASE,
        "USER": SUPERUSER,
        "PASSWORD": "",
        "HOST": str(postgres_socket_folder(home)),
        "PORT": str(PORT),
        "OPTIONS": {"options": "-c plan_cache_mode=force_custom_plan"},
    }


def database_url(home: Path, database: str = DATABASE) -> str:
    """A libpq URI: `psql "$(...)"` and psycopg understand it."""
    return f"postgresql:///{database}?host={postgres_socket_folder(home)}&port={PORT}&user={SUPERUSER}"


def redis_url(home: Path) -> str:
    """For Celery (kombu)."""
    return f"redis+socket://{redis_socket(home)}"


def redis_client_url(home: Path) -> str:
    """For redis-py."""
    return f"unix://{redis_socket(home)}"


def client_url(broker_url: str) -> str:
    """The redis-py form of a Celery broker URL (embedded or a real server's)."""
    return "unix" + broker_url.removeprefix("redis+socket") if broker_url.startswith("redis+socket:") else broker_url
