"""Which code made an output: the release, and the commit where the code is a checkout."""

import subprocess
import tomllib
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version

from django.conf import settings


@lru_cache(maxsize=1)
def code_version() -> str:
    """ "0.1.0" or "0.1.0+g7f1a012", with ".changed" when the checkout differs from the commit."""
    try:
        release = version("tissueboard")
    except PackageNotFoundError:
        release = tomllib.loads((settings.CODE_ROOT / "pyproject.toml").read_text())["project"]["version"]
    if not (settings.CODE_ROOT / ".git").exists():
        return release
    try:
        commit = _git("rev-parse", "--short=12", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return release
    return f"{release}+g{commit}{'.changed' if changed else ''}"


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(settings.CODE_ROOT), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=10).stdout.strip()
