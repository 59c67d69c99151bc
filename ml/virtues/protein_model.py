"""Marker embeddings by ESM-2 (esm2_t30_150M_UR50D, 640-d), where `transformers` and the model's files are to be had (spec 5)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.virtues.errors import VirtuesError

NAME = "esm2_t30_150M_UR50D"
AMINO_ACIDS = frozenset("ACDEFGHIKLMNPQRSTVWYXBUZO")


def read_fasta(text: str) -> dict[str, str]:
    """{accession: sequence} of a FASTA text with UniProt headers (`>sp|P10747|CD28_HUMAN ...`) or bare accessions.

    VirtuesError: fasta, where a line is no header and no sequence of amino acids, or an accession stands twice.
    """
    found: dict[str, list[str]] = {}
    name = ""
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if line.startswith(">"):
            parts = line[1:].split("|")
            name = (parts[1] if len(parts) >= 3 else (line[1:].split() or [""])[0]).strip()
            if not name or name in found:
                raise VirtuesError("fasta", f"The header {line[:40]!r} names no new protein.", "Give each once.", f"line {number}")
            found[name] = []
        elif line:
            if not name or not set(line.upper().rstrip("*")) <= AMINO_ACIDS:
                raise VirtuesError("fasta", f"{line[:20]!r} is no sequence of amino acids.", "Give a FASTA file.", f"line {number}")
            found[name].append(line.upper().rstrip("*"))
    return {name: "".join(rows) for name, rows in found.items() if rows}


def embed_sequences(
    sequences: Mapping[str, str], model_folder: str | Path, *, progress: Callable[[float, str], None] | None = None
) -> dict[str, NDArray[np.float32]]:
    """{accession: (E,) float32}: the last layer's states (after its LayerNorm), mean over residues, begin and end marks excluded.

    model_folder: files of the model as the hub lays them out (config.json, model.safetensors, vocab.txt, ...). Nothing is fetched; memory
    grows with the square of a protein's length. VirtuesError: protein_model_missing.
    """
    import torch

    tokenizer, model = _load(Path(model_folder))
    found = {}
    for done, (name, sequence) in enumerate(sequences.items()):
        tokens = tokenizer(sequence, return_tensors="pt")
        with torch.inference_mode():
            states = model(**tokens).last_hidden_state[0]
        found[name] = states[1 : 1 + len(sequence)].mean(dim=0).float().numpy()
        if progress is not None:
            progress((done + 1) / len(sequences), f"protein {done + 1} of {len(sequences)}")
    return found


def _load(folder: Path) -> tuple[Any, Any]:
    try:
        from transformers import AutoTokenizer, EsmModel
    except ImportError as error:
        hint = "Install the extra: pip install 'tissueboard[esm]'. Or give a folder of embeddings that were computed elsewhere."
        raise VirtuesError("protein_model_missing", "Computing marker embeddings needs the package transformers.", hint) from error
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        return tokenizer, EsmModel.from_pretrained(folder, local_files_only=True, add_pooling_layer=False).eval()
    except (OSError, ValueError) as error:
        said = f"There is no protein model of the layout of {NAME} in {folder.name}."
        raise VirtuesError("protein_model_missing", said, "Put its config.json, weights and vocabulary into one folder.") from error
