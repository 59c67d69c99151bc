"""The embedded servers start, stop, survive kill -9, and believe no stale pid file."""

import os
import shutil
import signal
import stat
import tempfile
from pathlib import Path

import psutil
import psycopg
import pytest
import redis as redis_py
from live_worker import wait_for

from tissueboard.embedded import postgres, redis, urls
from tissueboard.embedded.errors import EmbeddedServiceError


def new_home() -> Path:
    """A home folder with a path short enough for sockets, through which Postgres' user may walk."""
    folder = Path(tempfile.mkdtemp(prefix=f"tissueboard-test-{os.getpid()}-", dir="/tmp"))
    folder.chmod(0o711)
    return folder


@pytest.fixture(scope="module")
def shared_home():
    folder = new_home()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def home(shared_home):
    """One data folder for all tests of this file (initdb takes longest); each test finds and leaves it stopped, with an empty table."""
    yield shared_home
    redis.stop(shared_home)
    postgres.stop(shared_home)


@pytest.fixture
def bare_home():
    folder = new_home()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def start_with_table(home: Path) -> str:
    url = postgres.start(home)
    with psycopg.connect(url) as connection:
        connection.execute("DROP TABLE IF EXISTS kept")
        connection.execute("CREATE TABLE kept (n int)")
    return url


def rows(home: Path) -> list[int]:
    with psycopg.connect(urls.database_url(home)) as connection:
        return [n for (n,) in connection.execute("SELECT n FROM kept ORDER BY n")]


def postmaster(home: Path) -> int:
    return int((urls.postgres_folder(home) / "postmaster.pid").read_text().splitlines()[0])


def test_postgres_starts_stops_and_starts_again_with_its_rows(home):
    assert not postgres.is_running(home)
    url = start_with_table(home)
    with psycopg.connect(url) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        connection.execute("INSERT INTO kept VALUES (1)")
        assert connection.execute("SHOW fsync").fetchone() == ("on",)
    pid = postmaster(home)
    assert postgres.start(home) == url and postmaster(home) == pid
    assert not [c for c in psutil.Process(pid).net_connections() if c.status == psutil.CONN_LISTEN and c.laddr and c.family != 1]
    postgres.stop(home)
    assert not postgres.is_running(home)
    postgres.start(home)
    assert rows(home) == [1]


def test_postgres_killed_keeps_every_acknowledged_row(home):
    url = start_with_table(home)
    with psycopg.connect(url, autocommit=True) as connection:
        for n in range(50):
            connection.execute("INSERT INTO kept VALUES (%s)", [n])
        os.kill(postmaster(home), signal.SIGKILL)
    wait_for(lambda: not postgres.is_running(home), 10)
    postgres.start(home)
    assert rows(home) == list(range(50))


def test_a_pid_file_that_names_another_program_is_not_believed(home):
    postgres.start(home)
    pid_file = urls.postgres_folder(home) / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    os.kill(int(lines[0]), signal.SIGKILL)
    wait_for(lambda: not postgres.is_running(home), 10)
    # As after a reboot: the number now belongs to a process of the same user that is no Postgres of this folder.
    owner = pid_file.stat()
    pid_file.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
    os.chown(pid_file, owner.st_uid, owner.st_gid)
    assert not postgres.is_running(home)
    postgres.start(home)
    assert postgres.is_running(home) and postmaster(home) != os.getpid()


def test_a_socket_lock_that_names_a_living_stranger_does_not_block_the_start(home):
    postgres.start(home)
    lock = urls.postgres_socket_folder(home) / f".s.PGSQL.{urls.PORT}.lock"
    content, owner = lock.read_text(), lock.stat()
    postgres.stop(home)
    # As in a copy of the folder, or after a reboot: pid 1 always lives.
    lock.write_text("1\n" + content.partition("\n")[2])
    os.chown(lock, owner.st_uid, owner.st_gid)
    postgres.start(home)
    assert postgres.is_running(home)


def test_only_its_own_user_may_open_the_folder(home):
    postgres.start(home)
    redis.start(home)
    for folder in (urls.postgres_folder(home), urls.redis_folder(home)):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_redis_killed_keeps_its_messages(home):
    redis.start(home)
    with redis_py.Redis.from_url(urls.redis_client_url(home)) as client:
        client.rpush("io", "message")
        process = psutil.Process(int(client.info("server")["process_id"]))
    process.kill()
    wait_for(lambda: not redis.is_running(home), 10)
    redis.start(home)
    with redis_py.Redis.from_url(urls.redis_client_url(home)) as client:
        assert client.lrange("io", 0, -1) == [b"message"]
    redis.stop(home)
    assert not redis.is_running(home)


def test_sockets_of_a_long_path_lie_in_a_short_private_folder(bare_home):
    deep = bare_home / ("x" * 90)
    assert urls.postgres_socket_folder(deep).parent == urls.redis_socket(deep).parent.parent == Path("/tmp")
    try:
        postgres.start(deep)
        redis.start(deep)
        assert postgres.is_running(deep) and redis.is_running(deep)
        assert stat.S_IMODE(urls.postgres_socket_folder(deep).stat().st_mode) == 0o700
    finally:
        redis.stop(deep)
        postgres.stop(deep)
        for folder in (urls.postgres_socket_folder(deep), urls.redis_socket(deep).parent):
            shutil.rmtree(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="Only root needs another user for Postgres.")
def test_below_closed_folders_data_and_programs_lie_elsewhere_and_the_folders_stay_closed(bare_home, monkeypatch):
    """As root with a checkout and an environment under a home folder that nobody else may enter."""
    state, closed = bare_home / "state", bare_home / "closed"
    closed.mkdir(mode=0o700)
    inner = closed / "home"
    really, programs = urls.reachable, postgres.binaries()
    monkeypatch.setattr(urls, "SHARED_STATE", state)
    monkeypatch.setattr(urls, "reachable", lambda path, user: path != programs and really(path, user))
    try:
        postgres.start(inner)
        assert urls.postgres_folder(inner).is_relative_to(state)
        assert Path(psutil.Process(postmaster(inner)).exe()).is_relative_to(state)
        assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    finally:
        postgres.stop(inner)


def test_a_strangers_socket_folder_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(postgres.os, "geteuid", lambda: 12345)
    monkeypatch.setattr(urls, "postgres_user", lambda: None)
    with pytest.raises(EmbeddedServiceError, match="belongs to somebody else"):
        postgres._private_folder(tmp_path)


def test_addresses_of_real_servers_pass_unchanged():
    assert urls.client_url("redis://queue.example:6379/1") == "redis://queue.example:6379/1"
    assert urls.client_url("redis+socket:///var/redis.sock") == "unix:///var/redis.sock"
