"""The panel of a stack: a CSV with a row per channel, as steinbock writes it (channel, name, keep, ...), or as MCMICRO does (marker_name).

A stack holds the kept channels only, or all of them; the number of its planes tells which.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from ml.multiplex.header import MAX_PLANES, cleaned
from ml.slides.findings import Finding, FindingCode, Severity, SlideError

MAX_BYTES = 1 << 20
NAME_COLUMNS = ("name", "marker_name", "channel_name", "marker", "target", "clean_target")
NOT_KEPT = ("0", "0.0", "false", "no", "f", "n")
HINT = "Give a CSV with the columns channel, name and keep, one row per channel, as steinbock writes it."


class PanelRow(NamedTuple):
    """One channel. name: as a person knows it, else its metal. keep: whether steinbock writes it into the stack."""

    name: str
    keep: bool = True


def is_panel(member: str) -> bool:
    """Whether a file beside a stack is its panel, by its name."""
    name = PurePosixPath(member.replace("\\", "/")).name.lower()
    return name.endswith((".csv", ".tsv")) and ("panel" in name or "marker" in name) and not name.startswith(".")


def read_panel(data: bytes) -> list[PanelRow]:
    """The rows of a panel in their order. SlideError PANEL_UNREADABLE."""
    if len(data) > MAX_BYTES:
        raise _unreadable("it has more than 1 MB")
    try:
        text = data.decode("utf-8-sig")
        first = text.split("\n", 1)[0]
        separator = max(",;\t", key=first.count)
        lines = list(csv.DictReader(io.StringIO(text, newline=""), delimiter=separator, strict=True))
    except (UnicodeDecodeError, csv.Error) as reason:
        raise _unreadable(type(reason).__name__) from reason
    columns = {(key or "").strip().lower(): key for key in (lines[0] if lines else {})}
    named = next((columns[key] for key in NAME_COLUMNS if key in columns), None)
    if named is None and "channel" not in columns:
        raise _unreadable("it has no column name or channel")
    if not 1 <= len(lines) <= MAX_PLANES:
        raise _unreadable(f"it has {len(lines)} rows")
    rows = []
    for line in lines:
        name = cleaned(str(line.get(named) or "")) if named is not None else ""
        name = name or cleaned(str(line.get(columns.get("channel", "")) or ""))
        keep = str(line.get(columns.get("keep", "")) or "1").strip().lower() not in NOT_KEPT
        rows.append(PanelRow(name, keep))
    return rows


def panel_or_warning(file: str, data: bytes, findings: list[Finding]) -> list[PanelRow] | None:
    """The panel that lies beside an image; where it cannot be read, a warning, because a person can name the channels all the same."""
    try:
        return read_panel(data)
    except SlideError as error:
        findings.append(error.finding(file, Severity.WARNING))
        return None


def names_by_panel(rows: Sequence[PanelRow], n_channels: int) -> list[str]:
    """The names of n_channels planes. SlideError CHANNEL_COUNT_DIFFERS with both numbers."""
    kept = [row.name for row in rows if row.keep]
    if len(kept) == n_channels:
        return kept
    if len(rows) == n_channels:
        return [row.name for row in rows]
    of_kept = f", {len(kept)} of them kept" if len(kept) != len(rows) else ""
    sentence = f"The image has {n_channels} channels, but its panel {len(rows)} rows{of_kept}."
    raise SlideError(FindingCode.CHANNEL_COUNT_DIFFERS, sentence, "Give the panel that the image was made with.", "panel")


def _unreadable(why: str) -> SlideError:
    return SlideError(FindingCode.PANEL_UNREADABLE, f"The panel cannot be read ({why}).", HINT, "panel")
