"""Where the request being served comes from, for the access log."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True)
class RequestContext:
    """Address and path of the request being served; empty in commands and jobs."""

    address: str = ""
    path: str = ""


NOWHERE = RequestContext()
current: ContextVar[RequestContext] = ContextVar("request_context", default=NOWHERE)
