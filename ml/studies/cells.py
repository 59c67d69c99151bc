"""Cells of a study's tables: each is computed once and kept as one JSON file, so that a stopped study goes on where it was."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
ROOMS = (
    "discovery", "encoders", "hex", "mica", "multiplex", "nn", "simulate", "studies", "survival", "training", "transport", "virtues",
)  # fmt: skip


@dataclass
class Cells:
    """The cells of one study. folder: where their files lie. computed: keys of those that were computed by this object.

    say: told a line per cell.
    """

    folder: Path
    say: Callable[[str], None] = print
    computed: list[str] = field(default_factory=list)

    def get(self, key: Mapping[str, Any], settings: Mapping[str, Any], compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The cell of that key, from its file, or computed now and kept.

        key: name -> value; the values become the file's name. settings: everything else that decides the result; a file that was made with
        others is computed anew. compute: gives plain values (JSON).
        """
        name = "__".join(re.sub(r"[^A-Za-z0-9.]+", "-", str(v)) for v in key.values())
        path, mark = self.folder / f"{name}.json", fingerprint(settings)
        kept = _read(path)
        if kept is not None and kept["settings"] == mark:
            return kept
        started, cpu = time.monotonic(), time.process_time()
        result = compute()
        cell = {
            "key": dict(key),
            "settings": mark,
            "seconds": round(time.monotonic() - started, 1),
            "cpu_seconds": round(time.process_time() - cpu, 1),
            "code": code_version(),
            "result": result,
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(".new")
        new.write_text(json.dumps(cell))
        new.replace(path)
        self.computed.append(name)
        self.say(f"{name}: {cell['seconds']:.0f} s")
        return cell

    def all(self) -> list[dict[str, Any]]:
        """Every cell that is there, by name."""
        return [cell for path in sorted(self.folder.glob("*.json")) if (cell := _read(path)) is not None]


def _read(path: Path) -> dict[str, Any] | None:
    try:
        cell: dict[str, Any] = json.loads(path.read_text())
        return cell if {"key", "settings", "result"} <= set(cell) else None
    except (OSError, ValueError):
        return None


def fingerprint(settings: Mapping[str, Any]) -> str:
    """First 16 hex digits of the SHA-256 of the settings as JSON."""
    return sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:16]


def study_folder(study: str, quick: bool = False) -> Path:
    """`$TISSUEBOARD_HOME/studies/<study>` (home: var/ of the checkout); quick runs lie apart, so that they never end in a table."""
    home = Path(os.environ.get("TISSUEBOARD_HOME") or ROOT / "var")
    return home / "studies" / (f"{study}-quick" if quick else study)


def data_folder() -> Path:
    """`$TISSUEBOARD_DATA`, or shared/data beside the checkout. FileNotFoundError where it is not there."""
    folder = Path(os.environ.get("TISSUEBOARD_DATA") or ROOT.parent / "shared" / "data")
    if not (folder / "her2st").is_dir():
        raise FileNotFoundError("There is no her2st folder with real sections. Name its parent in TISSUEBOARD_DATA.")
    return folder


@lru_cache(maxsize=1)
def code_version() -> str:
    """Commit of the checkout, "+changed" where the rooms of ml that a study uses differ from it; "unknown" outside of a checkout."""
    try:
        commit = _git("rev-parse", "--short=10", "HEAD")
        changed = _git("status", "--porcelain", "--", *(f"ml/{room}" for room in ROOMS))
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return f"{commit}+changed" if changed else commit


def _git(*arguments: str) -> str:
    return subprocess.run(["git", "-C", str(ROOT), *arguments], check=True, capture_output=True, text=True, timeout=20).stdout.strip()
