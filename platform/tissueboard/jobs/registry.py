"""The list of job kinds. Each app registers its own in its `handlers.py`."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.conf import settings
from django.utils.module_loading import autodiscover_modules

from .errors import JobCode, JobRefused

if TYPE_CHECKING:
    from .context import Done, JobContext

Run = Callable[["JobContext"], "Done"]


@dataclass(frozen=True)
class Handler:
    """A kind of job: its queue, its title for people, and how long one attempt may take in seconds."""

    kind: str
    queue: str
    title: str
    soft_seconds: float
    hard_seconds: float
    run: Run


_handlers: dict[str, Handler] = {}


def handler(
    kind: str, *, queue: str, title: str, soft_seconds: float | None = None, hard_seconds: float | None = None
) -> Callable[[Run], Run]:
    """Registers `def run(ctx: JobContext) -> Done` under `kind` ("slides.tissue").

    After `soft_seconds` the handler is interrupted and may tidy up; after `hard_seconds` its process is killed.
    Left out, the limits are JOBS_SOFT_SECONDS and JOBS_HARD_SECONDS; only a soft limit gives a hard one a minute later.
    """
    soft = settings.JOBS_SOFT_SECONDS if soft_seconds is None else soft_seconds
    hard = hard_seconds if hard_seconds is not None else (settings.JOBS_HARD_SECONDS if soft_seconds is None else soft + 60)

    def register(run: Run) -> Run:
        known = _handlers.get(kind)
        if known is not None and (known.run.__module__, known.run.__qualname__) != (run.__module__, run.__qualname__):
            raise ValueError(f"Two handlers claim the job kind {kind!r}: {known.run.__module__} and {run.__module__}.")
        _handlers[kind] = Handler(kind, queue, title, soft, hard, run)
        return run

    return register


def get(kind: str) -> Handler:
    """The handler of a kind. JobRefused (UNKNOWN_KIND) if no app registered it."""
    try:
        return _handlers[kind]
    except KeyError:
        raise JobRefused(JobCode.UNKNOWN_KIND, f"There is no job of the kind {kind}.", "Check the name of the kind.") from None


def title_of(kind: str) -> str:
    return _handlers[kind].title if kind in _handlers else kind


def kinds() -> Iterator[Handler]:
    yield from _handlers.values()


def discover() -> None:
    """Imports every app's `handlers.py` and the modules of JOBS_EXTRA_HANDLERS."""
    autodiscover_modules("handlers")
    for module in settings.JOBS_EXTRA_HANDLERS:
        importlib.import_module(module)
