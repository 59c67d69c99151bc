"""The marker bank: one protein embedding per UniProt accession (spec 5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.virtues.errors import VirtuesError

F32 = NDArray[np.float32]


@dataclass(frozen=True)
class Selection:
    """Channels of a panel that the bank knows. kept: (k,) int64 places in the panel. proteins: accession of each.

    embeddings: (k, E) float32. dropped: (place, why) of the others.
    """

    kept: NDArray[np.int64]
    proteins: tuple[str, ...]
    embeddings: F32
    dropped: tuple[tuple[int, str], ...]


class MarkerBank:
    """Embeddings by accession, all of one length. `select` is what a panel needs; `sources` says where they come from."""

    def __init__(self, embeddings: Mapping[str, NDArray[Any]], source: str = "") -> None:
        """embeddings: {accession: (E,)}. VirtuesError: bank_empty, bank_shape, bank_not_finite."""
        self.source = source
        self.embeddings: dict[str, F32] = {name: np.asarray(value, np.float32) for name, value in sorted(embeddings.items())}
        if not self.embeddings:
            raise VirtuesError("bank_empty", "There is no marker embedding.", "Give a folder with one <UniProt>.pt per protein.")
        first = next(iter(self.embeddings.values())).shape
        for name, value in self.embeddings.items():
            if value.ndim != 1 or value.shape != first:
                said = f"The embedding of {name} has shape {value.shape}, another one {first}."
                raise VirtuesError("bank_shape", said, "All embeddings of a bank come from one protein model.", name)
            if not np.isfinite(value).all():
                raise VirtuesError("bank_not_finite", f"The embedding of {name} is not finite.", "Compute it again.", name)
        self.dim = int(first[0])

    @classmethod
    def from_folder(cls, folder: str | Path) -> MarkerBank:
        """From a folder of `<UniProt>.pt` (one tensor each, as the authors ship) and `*.safetensors` (tensors named by accession).

        VirtuesError: bank_missing, bank_empty, bank_file (names the file), bank_duplicate, and those of the constructor.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise VirtuesError("bank_missing", f"There is no folder {folder.name} of marker embeddings.", "Give the folder's path.")
        found: dict[str, NDArray[Any]] = {}
        for file in sorted([*folder.glob("*.pt"), *folder.glob("*.safetensors")]):
            for name, value in _read(file).items():
                if name in found and not np.array_equal(found[name], value):
                    said = f"Two files give different embeddings of {name}."
                    raise VirtuesError("bank_duplicate", said, "Keep one of them.", file.name)
                found[name] = value
        return cls(found, source=folder.name)

    def __len__(self) -> int:
        return len(self.embeddings)

    def __contains__(self, accession: object) -> bool:
        return accession in self.embeddings

    def embedding(self, accession: str) -> F32:
        """(E,). VirtuesError: no_embedding."""
        if accession not in self.embeddings:
            raise VirtuesError("no_embedding", f"The bank has no embedding of {accession}.", "Add it, or leave this marker out.", accession)
        return self.embeddings[accession]

    def select(self, proteins: Sequence[str | None]) -> Selection:
        """What a panel needs; a protein that stands twice is legal and kept twice. proteins: accession per channel, None where unknown.

        VirtuesError: no_known_marker where nothing is left.
        """
        kept = [place for place, one in enumerate(proteins) if one is not None and one in self.embeddings]
        dropped = [
            (place, "no protein is known for it" if one is None else f"the bank has no embedding of {one}")
            for place, one in enumerate(proteins)
            if one is None or one not in self.embeddings
        ]
        if not kept:
            said = f"None of the {len(proteins)} markers of this panel has a protein embedding."
            raise VirtuesError("no_known_marker", said, "Name the proteins of its channels, or add their embeddings to the bank.")
        names = tuple(str(proteins[place]) for place in kept)
        stacked = np.stack([self.embeddings[name] for name in names])
        return Selection(np.array(kept, np.int64), names, stacked, tuple(dropped))

    def save(self, file: str | Path) -> None:
        """Writes all embeddings as one safetensors file."""
        from safetensors.numpy import save_file

        save_file(self.embeddings, str(file))


def _read(file: Path) -> dict[str, NDArray[Any]]:
    """{accession: (E,)} of one file, read without running anything that it may hold."""
    import torch
    from safetensors.numpy import load_file

    try:
        if file.suffix == ".safetensors":
            return dict(load_file(file))
        tensor = torch.load(file, map_location="cpu", weights_only=True)
        return {file.stem: tensor.detach().float().numpy()}
    except Exception as error:
        said = f"{file.name} cannot be read as a marker embedding."
        raise VirtuesError("bank_file", said, "A .pt file holds one tensor; safetensors are named by accession.", file.name) from error
