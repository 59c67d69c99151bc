"""manage.py run: everything, in one terminal."""

import os
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from tissueboard.embedded.errors import EmbeddedServiceError


class Command(BaseCommand):
    help = "Starts database, queue, web, workers and sweeper, builds the demo if there is none, and stops all of it on Ctrl-C."
    # The others load every URL; web and workers make them anyway, and the start is seconds faster.
    requires_system_checks = ["jobs", "models"]

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--port", type=int, default=int(os.environ.get("PORT", "8000")), help="port of the web server (default 8000)")
        parser.add_argument("--host", default=os.environ.get("HOST_ADDRESS", "127.0.0.1"), help="address to listen on (default 127.0.0.1)")

    def handle(self, *args: Any, **options: Any) -> None:
        from tissueboard.embedded.supervisor import Supervisor
        from tissueboard.settings.env import HOME

        try:
            Supervisor(HOME, options["host"], options["port"]).run()
        except EmbeddedServiceError as error:
            raise CommandError(f"{error.sentence} {error.hint}") from error
