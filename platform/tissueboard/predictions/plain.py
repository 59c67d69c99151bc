"""Figures as JSON."""

from __future__ import annotations

from typing import Any


def plain(value: Any) -> Any:
    """The same with numpy numbers as Python's and NaN or infinity as None, so that Postgres takes it as JSON."""
    import math

    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if hasattr(value, "item") and not isinstance(value, str):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
