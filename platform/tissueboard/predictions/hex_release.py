"""HEX checkpoints of the released code as versions: brought by the people who run the server, used like any other."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tissueboard.errors import TissueboardError
from tissueboard.jobs.code_version import code_version
from tissueboard.jobs.errors import JobRefused
from tissueboard.model_registry.encoders import require_staff
from tissueboard.model_registry.models import ModelVersion
from tissueboard.model_registry.services import NewVersion, register
from tissueboard.store import checksum, store

from .hex_weights import encoder_file
from .refusing import model_refusals

LICENCE = "CC-BY-NC-ND-4.0 (HEX repository)"


def register_released(
    user: Any,
    name: str,
    checkpoint: Path,
    *,
    encoder: str = "musk",
    markers: Sequence[str] | None = None,
    tile_um: float = 56.0,
    licence: str = LICENCE,
) -> ModelVersion:
    """Checks a released checkpoint, copies it into the store and registers it, without a card: until it was measured on tissue of a cohort
    (predictions.evaluate_hex) none of its markers can be chosen on a case page.

    user: staff, or None for the house itself. markers: names of its outputs; None: the 40 of the paper. Whom it saw and which tissue is
    like its own is not known; no risk stands on its maps. Errors: StaffOnly, TissueboardError NAME_TAKEN, FILE_MISSING, those of the
    checkpoint.
    """
    from ml.hex.checkpoint import save_weights
    from ml.hex.panel import HEX_PANEL
    from ml.hex.released_weights import VISUAL, as_weights, load_released

    require_staff(user)
    if not checkpoint.is_file():
        raise TissueboardError("FILE_MISSING", f"There is no file {checkpoint.name}.", "Name the checkpoint.", status=409)
    panel = tuple(markers or HEX_PANEL)
    with model_refusals():
        try:
            weights = encoder_file(name=encoder)
        except JobRefused:
            weights = None  # needed only where the checkpoint holds no encoder; it says so itself
        model, _ = load_released(checkpoint, encoder, panel, weights)
        whole = _holds_encoder(checkpoint, encoder, VISUAL)
        made = as_weights(model, encoder, panel, tile_um, whole=whole)
        folder = store.new_temp()
        try:
            sha = checksum(checkpoint)
            about = {
                "label": "released",
                "code_version": code_version(),
                "inputs": {checkpoint.name: sha},
                "facts": {"membership": "unknown"},
            }
            provenance = save_weights(made, folder, [[]], about, None if whole else weights)
            key = f"models/hex/released-{sha[:12]}"
            stored = store.save(folder, key)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    new = NewVersion(
        family="hex",
        name=name,
        label=ModelVersion.Label.RELEASED,
        config=made.config.model_dump(mode="json"),
        key=key,
        sha256=stored,
        provenance={k: provenance[k] for k in ("made_at", "code_version", "inputs", "encoder", "facts")},
        licence=licence,
        metrics={},
        members={},
        pitch_um=tile_um,
        panel=panel,
        pretraining_overlap="unknown",
    )
    # Pipelines go on with what was measured here, until somebody chooses it.
    version: ModelVersion = register(new, cohorts=[], user=user, current=False)
    return version


def _holds_encoder(checkpoint: Path, encoder: str, prefix: str) -> bool:
    from ml.encoders.catalogue import encoder as entry
    from ml.encoders.weights import read_tensors

    return any(key.startswith(prefix) for key in read_tensors(entry(encoder), checkpoint))
