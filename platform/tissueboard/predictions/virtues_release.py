"""Released VirTues weights as versions: brought by the people who run the server, with the marker embeddings they go with."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from tissueboard.errors import TissueboardError
from tissueboard.jobs.code_version import code_version
from tissueboard.model_registry.encoders import require_staff
from tissueboard.model_registry.models import ModelVersion
from tissueboard.model_registry.services import NewVersion, register
from tissueboard.store import checksum, store

from .refusing import model_refusals
from .virtues_weights import FAMILY, embed_settings

NON_COMMERCIAL = "CC BY-NC 4.0"
LICENCES = {"virtues-sp31": "MIT", "virtues-sp32": NON_COMMERCIAL, "virtues-imc14": NON_COMMERCIAL}
UNKNOWN_LICENCE = "not stated"


def register_released(
    user: Any, name: str, weights: Path, bank: Path, *, release: str = "", licence: str = "", pitch_um: float = 1.0
) -> ModelVersion:
    """Checks released weights and their marker embeddings, copies both into the store and registers them.

    weights: model.safetensors or its folder (with config.json, or of the released configuration). bank: folder of embeddings. release: a
    name in LICENCES, "" = the name of the weights' folder where it is one. Whom the weights saw is not known. Not current: images need
    means and deviations of their cohort first (training "virtues_adopt"). user: staff, or None for the house itself.
    Errors: StaffOnly, TissueboardError NAME_TAKEN, RELEASE_UNKNOWN, JobRefused of the files, BANK_WIDTH.
    """
    from ml.virtues.checkpoint import WEIGHTS, load_weights
    from ml.virtues.markers import MarkerBank
    from ml.virtues.released import save_released

    require_staff(user)
    if release and release not in LICENCES:
        raise TissueboardError(
            "RELEASE_UNKNOWN", f"There is no release {release[:40]}.", f"Releases are {', '.join(LICENCES)}.", status=409
        )
    file = weights / WEIGHTS if weights.is_dir() else weights
    release = release or (file.parent.name if file.parent.name in LICENCES else "")
    if ModelVersion.objects.filter(family=FAMILY, name=name).exists():
        raise TissueboardError("NAME_TAKEN", f"There is a virtues version named {name} already.", "Give another name.", status=409)
    with model_refusals():
        model = load_weights(weights)
        markers = MarkerBank.from_folder(bank)
    if markers.dim != model.config.marker_embedding_dim:
        said = f"The embeddings in {bank.name} have {markers.dim} numbers, the weights take {model.config.marker_embedding_dim}."
        raise TissueboardError(
            "BANK_WIDTH", said, "Give the embeddings of the protein model that the weights were trained with.", status=409
        )
    folder = store.new_temp()
    sha = checksum(file)
    facts = {"membership": "unknown", "release": release or "not named"}
    try:
        provenance = save_released(
            model, markers, folder, pitch_um=pitch_um, code_version=code_version(),
            inputs={file.name: sha, "marker embeddings": checksum(bank)}, facts=facts,
        )  # fmt: skip
        key = f"models/virtues/released-{checksum(folder)[:12]}"
        stored = store.save(folder, key)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    embed = embed_settings(128, model.config.patch_size)
    new = NewVersion(
        family=FAMILY,
        name=name,
        label=ModelVersion.Label.RELEASED,
        config={"network": model.config.model_dump(mode="json"), "pitch_um": pitch_um, "embed": embed},
        key=key,
        sha256=stored,
        provenance={k: provenance[k] for k in ("made_at", "code_version", "inputs", "embeddings", "facts")},
        licence=licence or LICENCES.get(release, UNKNOWN_LICENCE),
        metrics={},
        members={},
        pitch_um=pitch_um,
        panel=tuple(markers.embeddings),
        pretraining_overlap="unknown",
    )
    version: ModelVersion = register(new, cohorts=[], user=user, current=False)
    return version
