"""The Dash application that all views use: ours in three points.

Its page is drawn inside our frame; its addresses carry the object of the request (one application serves every object); and what
the gateway refused inside a callback reaches Django's error page instead of being swallowed.
"""

from __future__ import annotations

from typing import Any

import flask
from dash import Dash
from django.conf import settings
from django.template.loader import render_to_string
from django.utils.crypto import salted_hmac
from django.utils.safestring import mark_safe

# Stands for the object in the addresses that Dash writes into its page.
PLACEHOLDER = "/dash/-placeholder-/"
ENVIRON = "tissueboard.dash"


class Context:
    """What the gateway found out about a request: the Django request, the object, the address of the view for this object."""

    def __init__(self, request: Any, subject: Any, prefix: str):
        self.request, self.subject, self.prefix = request, subject, prefix

    @property
    def user(self) -> Any:
        return self.request.user


def current() -> Context:
    """The context of the callback or page being served. Never held longer than the request."""
    found: Context = flask.request.environ[ENVIRON]
    return found


def serving() -> bool:
    """Whether a request of a person is being served (and so `current` has an answer)."""
    return flask.has_request_context() and ENVIRON in flask.request.environ


class FramedDash(Dash):
    """Dash inside our page frame."""

    template = "dash/frame.html"

    def interpolate_index(self, **parts: str) -> str:
        context = current()
        own = {name: mark_safe(_addressed(text, context.prefix)) for name, text in parts.items()}
        return render_to_string(self.template, {"dash": own, "subject": context.subject}, request=context.request)


def _addressed(text: str, prefix: str) -> str:
    """The text with the object's address in place of the placeholder, as it stands in HTML and as Dash writes it in JSON."""
    return text.replace(PLACEHOLDER, prefix).replace(PLACEHOLDER.replace("/", "\\u002f"), prefix)


def warmed_up(app: FramedDash) -> FramedDash:
    """The application after a first request of our own.

    Dash registers its libraries and callbacks during its first request and takes the others in meanwhile: on a fresh server a page's
    scripts, asked for at once, would be answered with "not a registered library".
    """
    app.server.test_client().get("/_favicon.ico")
    return app


def make_app(name: str) -> FramedDash:
    """A Dash application served from this house only: no CDN, no MCP server, no websocket, Django's CSRF cookie."""
    app = FramedDash(
        name,
        requests_pathname_prefix=PLACEHOLDER,
        routes_pathname_prefix="/",
        serve_locally=True,
        assets_ignore=".*",
        csrf_token_name=settings.CSRF_COOKIE_NAME,
        csrf_header_name="X-CSRFToken",
        # Django forbids its database inside an event loop, and Dash would open one.
        use_async=False,
        enable_mcp=False,
        websocket_callbacks=False,
        # A cohort without outcomes gets a page without controls.
        suppress_callback_exceptions=True,
        update_title="",
        include_assets_files=False,
    )
    app.server.secret_key = salted_hmac("tissueboard.dash", name).hexdigest()
    app.server.config["PROPAGATE_EXCEPTIONS"] = True
    return app
