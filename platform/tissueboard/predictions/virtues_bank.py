"""Where the protein embeddings of a new VirTues come from: a version's, the server's folder, or random for simulated tissue."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from django.conf import settings

from tissueboard.cohorts.models import Cohort
from tissueboard.jobs.errors import JobRefused
from tissueboard.model_registry.models import ModelVersion

from .virtues_weights import load_virtues

if TYPE_CHECKING:
    from ml.virtues.markers import MarkerBank

RANDOM = "random vectors, one per protein: for simulated tissue only, they know nothing of proteins"
WHERE_FROM = (
    "Register released weights with their embeddings (manage.py add_virtues) and choose that version, or have the people who run this "
    "server set MARKER_BANK to a folder of embeddings."
)


def bank_proteins(source: ModelVersion | None) -> set[str] | None:
    """Accessions that the bank of a version has, or the server's folder (None named); None without a bank. Reads names only."""
    if source is not None:
        return set(source.panel)
    if not settings.MARKER_BANK:
        return None
    folder = Path(settings.MARKER_BANK)
    return {file.stem for file in folder.glob("*.pt")} | {name for file in folder.glob("*.safetensors") for name in _names(file)}


def _names(file: Path) -> list[str]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="np") as opened:
            return list(opened.keys())
    except (SafetensorError, OSError):
        return []  # reading it in the job says what is wrong with it


def bank_for(source: ModelVersion | None, cohorts: Sequence[Cohort], proteins: Collection[str], dim: int) -> MarkerBank:
    """The bank that a training on these cohorts takes. JobRefused BANK_MISSING, BANK_WIDTH; VirtuesError of a folder."""
    from ml.virtues.markers import MarkerBank

    if source is not None:
        bank = load_virtues(source).bank
    elif settings.MARKER_BANK:
        bank = MarkerBank.from_folder(settings.MARKER_BANK)
    elif all(cohort.simulated for cohort in cohorts):
        bank = random_bank(proteins, dim)
    else:
        raise JobRefused("BANK_MISSING", "There are no protein embeddings of markers on this server.", WHERE_FROM)
    if bank.dim != dim:
        said = f"The embeddings have {bank.dim} numbers and the network takes {dim} (marker_embedding_dim)."
        raise JobRefused("BANK_WIDTH", said, "Set marker_embedding_dim to the length of the embeddings.")
    return bank


def random_bank(proteins: Collection[str], dim: int) -> MarkerBank:
    """One vector per accession, the same every time; as spread as ESM-2's (deviation 0.256)."""
    import numpy as np

    from ml.virtues.markers import MarkerBank

    drawn = {name: np.random.default_rng(zlib.crc32(name.encode())).normal(0, 0.256, dim).astype(np.float32) for name in sorted(proteins)}
    return MarkerBank(drawn, RANDOM)
