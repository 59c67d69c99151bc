"""Small helpers to write SVG by hand. Presentation attributes only: an inline style would break the page's security policy."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from xml.sax.saxutils import escape, quoteattr

INK, INK_2, INK_3, LINE, GRID = "#14212c", "#43525f", "#5d6b77", "#b7c3cc", "#e6ebef"


def tag(name: str, content: str = "", /, **attributes: Any) -> str:
    """One element. Underscores in attribute names become hyphens; None leaves an attribute out; floats are cut to 0.01 px."""
    parts = []
    for key, value in attributes.items():
        if value is None:
            continue
        text = f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
        parts.append(f" {key.rstrip('_').replace('_', '-')}={quoteattr(text)}")
    return f"<{name}{''.join(parts)}>{content}</{name}>"


def text(x: float, y: float, content: str, *, size: float = 12, anchor: str = "start", fill: str = INK_2, weight: int | None = None) -> str:
    return tag("text", escape(content), x=float(x), y=float(y), font_size=size, text_anchor=anchor, fill=fill, font_weight=weight)


def line(x1: float, y1: float, x2: float, y2: float, **attributes: Any) -> str:
    return tag("line", x1=float(x1), y1=float(y1), x2=float(x2), y2=float(y2), **attributes)


def path(points: Iterable[tuple[float, float]], *, close: bool = False, **attributes: Any) -> str:
    body = "L".join(f"{x:.2f} {y:.2f}" for x, y in points)
    return tag("path", d=f"M{body}{'Z' if close else ''}", **attributes)


def steps(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Corners of a right-continuous step function through (x, y)."""
    corners: list[tuple[float, float]] = []
    for x, y in points:
        if corners:
            corners.append((x, corners[-1][1]))
        corners.append((x, y))
    return corners


def document(width: float, height: float, title: str, description: str, body: str, *, class_: str = "figure") -> str:
    """A whole picture that scales with its column; title and description are what a screen reader says."""
    head = tag("title", escape(title)) + tag("desc", escape(description))
    return tag("svg", head + body, xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {width:g} {height:g}", role="img", class_=class_)
