"""How numbers, states and checksums are written. One way each, so that two pages never disagree."""

from __future__ import annotations

import math
from typing import Any

from django import template

register = template.Library()

DAYS_PER_MONTH = 30.4375
TONES = {
    "ready": "ok",
    "succeeded": "ok",
    "exists": "ok",
    "done": "ok",
    "allowed": "ok",
    "needs attention": "warn",
    "pending": "warn",
    "expired": "warn",
    "cancelled": "muted",
    "waiting": "muted",
    "skipped": "warn",
    "paused": "warn",
    "created": "muted",
    "queued": "muted",
    "rejected": "bad",
    "failed": "bad",
    "crashed": "bad",
    "refused": "bad",
    "error": "bad",
    "warning": "warn",
    "note": "info",
    "info": "info",
}
# A shape beside each colour, for those who do not see the colour.
SHAPES = {"ok": "✓", "warn": "!", "bad": "✕", "muted": "–", "info": "i", "busy": "…"}


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


@register.filter
def num(value: Any, digits: int = 2) -> str:
    """A number with a fixed count of decimals; an en dash where there is none."""
    return f"{value:.{int(digits)}f}".replace("-", "−") if is_number(value) else "–"


@register.filter
def short(value: Any, digits: int = 3) -> str:
    """A number with so many significant digits and no exponent for everyday sizes."""
    return f"{value:.{int(digits)}g}".replace("-", "−") if is_number(value) else "–"


@register.filter
def signed(value: Any, digits: int = 2) -> str:
    """A contribution: its sign, and so many significant digits."""
    return f"{value:+.{int(digits)}g}".replace("-", "−") if is_number(value) else "–"


@register.filter
def percent(value: Any, digits: int = 0) -> str:
    """A share 0..1 as per cent."""
    return f"{100 * value:.{int(digits)}f}%" if is_number(value) else "–"


@register.filter
def months(days: Any, digits: int = 1) -> str:
    """Days as months of 30.4375 days."""
    return f"{days / DAYS_PER_MONTH:.{int(digits)}f}".replace("-", "−") if is_number(days) else "–"


@register.filter
def p_value(value: Any) -> str:
    """p as boards read it: three decimals, or < 0.001."""
    if not is_number(value):
        return "–"
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"


@register.filter
def sha(value: Any) -> str:
    """The first twelve characters of a checksum: enough to compare by eye."""
    return str(value)[:12] if value else "–"


@register.filter
def mebibytes(value: Any) -> str:
    if not is_number(value):
        return "–"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(value) < 1024 or unit == "GiB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return "–"


@register.filter
def tone(state: Any) -> str:
    """The tone of a state: ok, warn, bad, muted, info, or busy while something works on it."""
    return TONES.get(str(state), "busy")


@register.filter
def shape(kind: str) -> str:
    """The sign beside a tone."""
    return SHAPES[kind]


@register.inclusion_tag("parts/badge.html")
def badge(state: Any, text: str = "") -> dict[str, str]:
    """A state as a word with a shape; never colour alone."""
    kind = tone(state)
    return {"tone": kind, "shape": SHAPES[kind], "text": text or str(state)}


@register.filter
def field_value(mapping: Any, key: Any) -> Any:
    """mapping[key] for a key that is a variable; None where it is missing."""
    try:
        return mapping[key]
    except (KeyError, IndexError, TypeError):
        return None
