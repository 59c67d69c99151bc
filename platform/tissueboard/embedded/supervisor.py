"""`manage.py run`: services, web, workers, sweeper and demo as one thing that starts, heals and stops together."""

import contextlib
import fcntl
import os
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from django.core.management import call_command
from django.db import OperationalError, connection

from tissueboard.embedded import postgres, redis, services
from tissueboard.embedded.children import ROOT, Child, commands, stop_all, worker_suffix
from tissueboard.embedded.errors import EmbeddedServiceError
from tissueboard.embedded.lock import Lease

LOOK_SECONDS = 0.2
DEMO_TRIES = 3
BEAT_AFTER_SECONDS = 20


class Supervisor:
    def __init__(self, home: Path, host: str, port: int) -> None:
        self.home, self.host, self.port = home, host, port
        self.began = time.monotonic()
        self.stopping = False
        self.served = False
        self.children: list[Child] = []
        self.demo: Child | None = None

    def run(self) -> None:
        """Runs until SIGINT or SIGTERM. EmbeddedServiceError with a sentence when it cannot start."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._ask_to_stop)
        with self._only_one():
            check_port(self.host, self.port)
            lease = Lease(self.home)
            try:
                self._start()
                while not self.stopping:
                    self._look()
                    time.sleep(LOOK_SECONDS)
            finally:
                self._stop()
                lease.release(lambda: None)

    def _ask_to_stop(self, number: int, frame: object) -> None:
        self.stopping = True

    @contextlib.contextmanager
    def _only_one(self):
        folder = self.home / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        (self.home / "staticfiles").mkdir(exist_ok=True)  # the web server warns where it is missing
        with (folder / "run.lock").open("a") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise EmbeddedServiceError(
                    f"Tissueboard already runs on the folder {self.home}.", "Stop it with Ctrl-C first, or set another TISSUEBOARD_HOME."
                ) from None
            yield

    def say(self, text: str) -> None:
        print(f"[{time.monotonic() - self.began:6.1f} s] {text}", flush=True)

    def _start(self) -> None:
        with_postgres, with_redis = services.wanted()
        database = "embedded Postgres" if with_postgres else "DATABASE_URL"
        queue = "embedded Redis" if with_redis else "REDIS_URL"
        self.say(f"Database: {database}; queue: {queue}.")
        services.start(self.home)
        (self.home / "locks" / "started-by-a-command").unlink(missing_ok=True)
        try:
            call_command("migrate", interactive=False, verbosity=0)
        except OperationalError as error:
            reason = str(error).splitlines()[0]
            raise EmbeddedServiceError(f"The database does not answer: {reason}.", "Check DATABASE_URL.") from error
        from tissueboard.model_registry.encoders import ensure_builtin_encoders

        ensure_builtin_encoders()
        if not with_redis:
            check_queue()
        self._release("the service was started again")
        self.say("Database is ready; starting web, workers and sweeper.")
        for name, (command, environment) in commands(self.home, self.host, self.port).items():
            self.children.append(Child(name, command, environment, self.home / "log" / f"{name}.log"))
            if name != "beat":  # it may wait until the others have used the processors for their start
                self.children[-1].start()
        self._beat.due = time.monotonic() + BEAT_AFTER_SECONDS
        if os.environ.get("TISSUEBOARD_DEMO", "1") != "0" and self._demo_is_due():
            self._demo_mark.touch()
            self.demo = Child("demo", [sys.executable, str(ROOT / "manage.py"), "demo"], {}, None)
            self.demo.start()
        connection.close()

    @property
    def _beat(self) -> Child:
        return next(child for child in self.children if child.name == "beat")

    def _release(self, note: str) -> None:
        """Jobs of workers of ours that are gone go back to the queue at once."""
        from tissueboard.jobs.sweeper import release_orphans

        released = release_orphans(f"{worker_suffix(self.home)}{socket.gethostname()}:", note)
        if released:
            self.say(f"{released} unfinished jobs go back to the queue.")

    @property
    def _demo_mark(self) -> Path:
        return self.home / "demo.unfinished"

    def _demo_is_due(self) -> bool:
        """There is no simulated cohort, or building it was interrupted."""
        from tissueboard.cohorts.models import Cohort

        return self._demo_mark.exists() or not Cohort.objects.filter(simulated=True).exists()

    def _look(self) -> None:
        """One round: revive what died, tell what changed."""
        for service, needed in zip((postgres, redis), services.wanted(), strict=True):
            if needed and not service.is_running(self.home):
                self.say(f"{service.__name__.rsplit('.', 1)[-1].title()} died; starting it again.")
                try:
                    service.start(self.home)
                except EmbeddedServiceError as error:
                    self.say(str(error))
        for child in self.children:
            if child.process is None and time.monotonic() >= child.due:
                child.start()
            elif (code := child.exit_code()) is not None:
                child.kill()  # what it leaves behind in its session
                self.say(f"{child.name} ended ({_ending(code)}); starting it again in {child.plan_restart():g} s. Its log: {child.log}")
        self._look_at_demo()
        if not self.served and self._serves():
            self.served = True
            self._beat.due = 0.0
            host = "localhost" if self.host in ("127.0.0.1", "0.0.0.0") else self.host
            self.say(f"Tissueboard serves at http://{host}:{self.port}/  (Ctrl-C stops it)")

    def _look_at_demo(self) -> None:
        demo = self.demo
        if demo is None:
            return
        if demo.process is None:
            if time.monotonic() >= demo.due:
                demo.start()
            return
        code = demo.exit_code()
        if code == 0:
            self._demo_mark.unlink(missing_ok=True)
            self.demo = None
        elif code is not None and demo.deaths + 1 < DEMO_TRIES:
            self.say(f"The demo ended ({_ending(code)}); trying again in {demo.plan_restart():g} s.")
        elif code is not None:
            self.say("The demo could not be built; the next start tries again. All else goes on.")
            self.demo = None

    def _serves(self) -> bool:
        try:
            # As a proxy would ask, so that HTTPS=1 does not send us elsewhere.
            ask = urllib.request.Request(f"http://127.0.0.1:{self.port}/healthz", headers={"X-Forwarded-Proto": "https"})
            with urllib.request.urlopen(ask, timeout=2) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False

    def _stop(self) -> None:
        """Web, beat, workers, then Redis and Postgres; within 15 s."""
        self.say("Stopping.")
        with contextlib.suppress(ValueError):
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C does not leave half of it behind
        by_kind = {"web": [], "beat": [], "worker": []}
        for child in self.children:
            by_kind[child.name.split("-")[0]].append(child)
        stop_all([*([self.demo] if self.demo else []), *by_kind["web"]], 4)
        stop_all(by_kind["beat"], 2)
        stop_all(by_kind["worker"], 4)
        if self.children:
            with contextlib.suppress(Exception):  # the database may be what is missing
                self._release("the service was stopped")
        connection.close()
        services.stop(self.home)
        self.say("Stopped.")


def _ending(code: int) -> str:
    return f"killed by signal {-code}" if code < 0 else f"exit code {code}"


def check_queue() -> None:
    """EmbeddedServiceError when the server of REDIS_URL does not answer."""
    import redis
    from django.conf import settings

    try:
        with redis.Redis.from_url(settings.REDIS_CLIENT_URL, socket_connect_timeout=5, socket_timeout=5, retry=None) as client:
            client.ping()
    except (redis.RedisError, ValueError, OSError) as error:
        raise EmbeddedServiceError(f"The queue does not answer: {str(error).rstrip('.')}.", "Check REDIS_URL.") from error


def check_port(host: str, port: int) -> None:
    """EmbeddedServiceError when somebody else listens there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise EmbeddedServiceError(
                f"Port {port} of {host} cannot be used: {error.strerror}.", f"Choose another, for example make run PORT={port + 1}."
            ) from None
