"""A worker says every few seconds in Redis which queues it serves with how many processes; health page and estimates read it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import redis
from celery import bootsteps
from django.conf import settings

EVERY_SECONDS = 5.0
FORGET_SECONDS = 20
PREFIX = "tissueboard:worker"


def redis_client() -> Any:
    """A client that gives up within seconds."""
    return redis.Redis.from_url(settings.REDIS_CLIENT_URL, socket_timeout=3, socket_connect_timeout=3, retry=None, decode_responses=True)


def served_queues() -> set[str]:
    """Names of the queues that some live worker serves. redis.RedisError if Redis does not answer."""
    with redis_client() as client:
        return {key.split(":")[2] for key in client.scan_iter(match=f"{PREFIX}:*", count=1000)}


@dataclass(frozen=True)
class Crew:
    """One live worker: the queues that it serves and how many jobs it does at a time."""

    queues: frozenset[str]
    processes: int


def crews() -> list[Crew]:
    """All live workers. redis.RedisError if Redis does not answer."""
    queues: dict[str, set[str]] = {}
    processes: dict[str, int] = {}
    with redis_client() as client:
        keys = sorted(client.scan_iter(match=f"{PREFIX}:*", count=1000))
        for key, said in zip(keys, client.mget(keys) if keys else ()):
            _, _, queue, host = key.split(":", 3)
            if said is not None:  # it ran out between the two questions
                queues.setdefault(host, set()).add(queue)
                processes[host] = int(said)
    return [Crew(frozenset(served), processes[host]) for host, served in sorted(queues.items())]


class Presence(bootsteps.StartStopStep):
    """Part of the worker's consumer: it begins anew with every connection to Redis, and ends with it."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, parent: Any) -> None:
        self._keys = [f"{PREFIX}:{queue}:{parent.hostname}" for queue in parent.app.amqp.queues.consume_from]
        self._processes = max(1, parent.controller.concurrency or 1)
        self._say()
        self._timer = parent.timer.call_repeatedly(EVERY_SECONDS, self._say)

    def stop(self, parent: Any) -> None:
        self._timer.cancel()
        try:
            with redis_client() as client:
                client.delete(*self._keys)
        except redis.RedisError:
            pass  # Redis stopped first; the keys run out by themselves

    shutdown = stop

    def _say(self) -> None:
        try:
            with redis_client() as client:
                for key in self._keys:
                    client.set(key, str(self._processes), ex=FORGET_SECONDS)
        except redis.RedisError:
            pass  # the consumer notices by itself and connects again
