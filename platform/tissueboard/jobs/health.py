"""Do database, queue and worker answer?"""

from __future__ import annotations

from typing import Any

import redis
from django.db import DatabaseError, connection

from .models import Queue
from .presence import served_queues


def health() -> dict[str, Any]:
    """{"ok": bool, "database": {"ok", "sentence"}, "queue": ..., "worker": ...}; takes a few milliseconds, a few seconds when one hangs."""
    report: dict[str, Any] = {"database": _database()}
    try:
        missing = sorted(set(Queue.values) - served_queues())
        report["queue"] = _answer(True, "The queue answers.")
        said = f"No worker answers for: {', '.join(missing)}." if missing else "Workers answer for all queues."
        report["worker"] = _answer(not missing, said)
    except (redis.RedisError, OSError):
        report["queue"] = _answer(False, "The queue does not answer.")
        report["worker"] = _answer(False, "Workers cannot be asked while the queue does not answer.")
    return {"ok": all(part["ok"] for part in report.values()), **report}


def _database() -> dict[str, Any]:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError:
        return _answer(False, "The database does not answer.")
    return _answer(True, "The database answers.")


def _answer(ok: bool, sentence: str) -> dict[str, Any]:
    return {"ok": ok, "sentence": sentence}
