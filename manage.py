#!/usr/bin/env python
"""Django's command line. Where no DATABASE_URL or REDIS_URL is set, the embedded services run for as long as the command needs them."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
sys.path[:0] = [str(ROOT / "platform"), str(ROOT)]


def main() -> int:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tissueboard.settings")
    from django.core.exceptions import ImproperlyConfigured

    from tissueboard.embedded.errors import EmbeddedServiceError
    from tissueboard.embedded.services import for_command

    try:
        with for_command(sys.argv[1:]):
            from django.core.management import execute_from_command_line

            execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:
        print(f"Tissueboard cannot start: {error}", file=sys.stderr)
        return 1
    except EmbeddedServiceError as error:
        print(f"{error.sentence} {error.hint}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
