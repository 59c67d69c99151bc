"""Block 6: where something virtual and something measured speak of the same protein."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from .measured import Measured


@dataclass(frozen=True)
class Pair:
    """A virtual marker and the measurement of the same protein."""

    marker: str
    measured: Measured
    locked: bool


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def pairs(measured: list[Measured], markers: list[Any]) -> list[Pair]:
    """Markers of the map that are also measured, by name, letters and digits only ("PD-L1" and "PD-L1 TPS" speak of one protein)."""
    found = []
    for marker in markers:
        plain = _plain(marker.name)
        for row in measured:
            words = [_plain(part) for part in row.name.split()]
            if row.kind == "biomarker" and (plain == _plain(row.name) or plain in words):
                found.append(Pair(marker.name, row, marker.locked))
    return found
