"""VirTues: one encoder for any panel of markers (multiplex images). Importing the room imports no torch."""

from typing import Any

__all__ = ["VirTues"]


def __getattr__(name: str) -> Any:
    if name == "VirTues":
        from ml.virtues.model import VirTues

        return VirTues
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
