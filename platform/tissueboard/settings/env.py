"""Reads and checks the environment, once. A wrong variable stops the start and is named."""

import os
import secrets
from pathlib import Path

import environ
from django.core.exceptions import ImproperlyConfigured

env = environ.Env()

ROOT = Path(__file__).resolve().parents[3]
HOME = Path(os.environ.get("TISSUEBOARD_HOME", ROOT / "var")).resolve()


def flag(name: str, default: bool) -> bool:
    """A boolean variable; anything but 0/1/true/false is refused."""
    value = os.environ.get(name)
    if value is None or value == "":
        return default
    if value.lower() in ("1", "true"):
        return True
    if value.lower() in ("0", "false"):
        return False
    raise ImproperlyConfigured(f"{name} is {value!r}; set it to 0 or 1.")


def whole(name: str, default: int) -> int:
    """A variable that is a positive whole number."""
    value = os.environ.get(name) or str(default)
    if not (value.isascii() and value.isdigit() and int(value) > 0):
        raise ImproperlyConfigured(f"{name} is {value!r}; set it to a positive whole number.")
    return int(value)


def seconds(name: str, default: float) -> float:
    """A variable that is a positive number of seconds."""
    value = os.environ.get(name) or str(default)
    try:
        number = float(value)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise ImproperlyConfigured(f"{name} is {value!r}; set it to a positive number of seconds.")
    return number


def one_of(name: str, choices: tuple[str, ...], default: str) -> str:
    """A variable that is one of a few words."""
    value = os.environ.get(name) or default
    if value not in choices:
        raise ImproperlyConfigured(f"{name} is {value!r}; set it to {' or '.join(choices)}.")
    return value


def server_url(name: str, schemes: tuple[str, ...]) -> str:
    """A variable that names a server, or "" where it is not set. Its value is not repeated: it may hold a password."""
    value = os.environ.get(name, "")
    if value and not value.startswith(tuple(f"{scheme}://" for scheme in schemes)):
        raise ImproperlyConfigured(
            f"{name} does not begin with {' or '.join(f'{scheme}://' for scheme in schemes)}; correct it or unset it."
        )
    return value


def secret_key(debug_home: Path) -> str:
    """SECRET_KEY from the environment, else one made at the first start and kept in the home folder (mode 0600)."""
    given = os.environ.get("SECRET_KEY")
    if given is not None:
        if len(given) < 32:
            raise ImproperlyConfigured("SECRET_KEY is shorter than 32 characters; make one with `openssl rand -base64 48`.")
        return given
    path = debug_home / "secret_key"
    if not path.exists():
        debug_home.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        except FileExistsError:
            return path.read_text()
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_urlsafe(48))
    return path.read_text()
