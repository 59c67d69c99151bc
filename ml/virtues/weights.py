"""A VirTues of ours on disk: the released layout, with all that is needed to use it and to know whom it saw.

model.safetensors, config.json   as released (ml.virtues.checkpoint): the authors' code loads them, too
markers.safetensors              embeddings of the proteins that it was trained with, by accession: weights mean nothing with others
standard.json                    data set -> {channel: [mean, deviation]} of log1p of the clipped counts
provenance.json                  recipe, membership hashes, checksums, figures
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ml.slides.files import sha256_file, whole_file
from ml.training.splits import patient_hash
from ml.virtues.checkpoint import CONFIG, WEIGHTS, load_weights, save_weights
from ml.virtues.errors import VirtuesError
from ml.virtues.markers import MarkerBank
from ml.virtues.model import VirTues
from ml.virtues.preprocess import Standard

if TYPE_CHECKING:
    from ml.virtues.train import PretrainResult

FORMAT = 1
MARKERS, STANDARD, PROVENANCE = "markers.safetensors", "standard.json", "provenance.json"


@dataclass(frozen=True)
class VirtuesWeights:
    """A network ready for use. membership: hashes of the patients that it saw. pitch_um: um per px that its images need."""

    model: VirTues
    bank: MarkerBank
    standards: dict[str, Standard]
    membership: tuple[str, ...]
    pitch_um: float
    provenance: dict[str, Any] = field(default_factory=dict)


def save_fit(
    result: PretrainResult,
    folder: str | Path,
    *,
    salt: str,
    code_version: str,
    label: str,
    inputs: Mapping[str, str],
    facts: Mapping[str, Any] | None = None,
    seen_before: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Writes a pretrained network and gives its provenance.

    salt: secret with which patients' codes are hashed (never stored). label: e.g. "trained on simulated tissue", shown with every number
    of it. inputs: name -> SHA-256 of what it was trained on. seen_before: hashes of patients that the network it went on from had seen.
    """
    folder = Path(folder)
    save_weights(result.model, folder)
    with whole_file(folder / MARKERS) as part:
        result.bank.save(part)
    _write(folder / STANDARD, {name: standard.to_json() for name, standard in result.standards.items()})
    provenance = {
        "format": FORMAT,
        "family": "virtues",
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "label": label,
        "code_version": code_version,
        "fit": result.config.model_dump(mode="json"),
        "pitch_um": result.config.pitch_um,
        "embeddings": result.bank.source,
        "markers": list(result.proteins),
        "membership": [sorted({*(patient_hash(p, salt) for p in result.split.fit), *seen_before})],
        "inputs": dict(inputs),
        "facts": dict(facts or {}),
        "metrics": result.metrics(),
        "mark": result.mark,
        "sha256": {name: sha256_file(folder / name) for name in (WEIGHTS, CONFIG, MARKERS, STANDARD)},
    }
    _write(folder / PROVENANCE, provenance)
    return provenance


def load(folder: str | Path) -> VirtuesWeights:
    """What `save_fit` wrote, strictly: every file is there and is the one that was written.

    VirtuesError: folder_incomplete, json_wrong, not_virtues, weights_changed, and those of `load_weights`.
    """
    folder = Path(folder)
    provenance = _read(folder, PROVENANCE)
    if provenance.get("family") != "virtues" or provenance.get("format") != FORMAT:
        said = f"The folder {folder.name} does not hold VirTues weights of format {FORMAT}."
        raise VirtuesError("not_virtues", said, "Name another model; a released file is read by ml.virtues.checkpoint.", folder.name)
    for name, checksum in provenance.get("sha256", {}).items():
        if not (folder / name).is_file():
            raise VirtuesError("folder_incomplete", f"There is no {name} in {folder.name}.", "Copy the folder again.", name)
        if sha256_file(folder / name) != checksum:
            raise VirtuesError("weights_changed", f"The file {name} is not the one that was saved.", "Copy the folder again.", name)
    from safetensors.numpy import load_file

    standards = {name: Standard.from_json(table) for name, table in _read(folder, STANDARD).items()}
    bank = MarkerBank(load_file(folder / MARKERS), provenance.get("embeddings", ""))
    membership = tuple(provenance["membership"][0])
    return VirtuesWeights(load_weights(folder), bank, standards, membership, float(provenance["pitch_um"]), provenance)


def _read(folder: Path, name: str) -> dict[str, Any]:
    try:
        content = json.loads((folder / name).read_text())
    except FileNotFoundError as error:
        said = f"There is no {name} in {folder.name}."
        raise VirtuesError("folder_incomplete", said, "Name a folder that a VirTues was saved to.", name) from error
    except (OSError, ValueError) as error:
        raise VirtuesError("json_wrong", f"{name} in {folder.name} cannot be read as JSON.", "Copy the folder again.", name) from error
    if not isinstance(content, dict):
        raise VirtuesError("json_wrong", f"{name} in {folder.name} is not a table of fields.", "Copy the folder again.", name)
    return content


def _write(path: Path, content: Mapping[str, Any]) -> None:
    def clean(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {k: clean(v) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [clean(v) for v in value]
        return None if isinstance(value, float) and not np.isfinite(value) else value

    with whole_file(path) as part:
        part.write_text(json.dumps(clean(content), indent=1, sort_keys=True))
