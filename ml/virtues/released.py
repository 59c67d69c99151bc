"""Released weights as a folder of ours (ml.virtues.weights), so that they are used like any other: they saw nobody that is known here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ml.slides.files import sha256_file
from ml.virtues.checkpoint import CONFIG, WEIGHTS, save_weights
from ml.virtues.markers import MarkerBank
from ml.virtues.model import VirTues
from ml.virtues.weights import FORMAT, MARKERS, PROVENANCE, STANDARD


def save_released(
    model: VirTues,
    bank: MarkerBank,
    folder: str | Path,
    *,
    pitch_um: float,
    code_version: str,
    inputs: Mapping[str, str],
    facts: Mapping[str, Any],
) -> dict[str, Any]:
    """Writes weights, embeddings and an empty table of standards; gives the provenance. inputs: name -> SHA-256 of their files."""
    folder = Path(folder)
    save_weights(model, folder)
    bank.save(folder / MARKERS)
    (folder / STANDARD).write_text("{}")
    provenance: dict[str, Any] = {
        "format": FORMAT,
        "family": "virtues",
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "label": "released",
        "code_version": code_version,
        "pitch_um": pitch_um,
        "embeddings": bank.source,
        "markers": list(bank.embeddings),
        "membership": [[]],
        "inputs": dict(inputs),
        "facts": dict(facts),
        "sha256": {name: sha256_file(folder / name) for name in (WEIGHTS, CONFIG, MARKERS, STANDARD)},
    }
    (folder / PROVENANCE).write_text(json.dumps(provenance, indent=1, sort_keys=True))
    return provenance
