"""The weights of a HEX version, with the encoder that they stand on, where the work is done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tissueboard.jobs.errors import JobRefused
from tissueboard.model_registry.models import ModelVersion
from tissueboard.model_registry.services import weights_path

from .refusing import model_refusals

ENCODER = "encoder"
# Tiles are read at this side at least, so that morphology has its detail; a smaller encoder gets them made smaller.
LEAST_PX = 112


def reading_px(input_px: int, tile_um: float, mpp: float) -> int:
    """Side in px at which a slide's tiles are read for an encoder of this input, when it is trained as when it is applied: the same road to
    the same pixels, or every tile would look a little unlike the fitting ones.

    An encoder that takes more pixels than the slide has gets the slide's own, enlarged by the encoder's resizing (HEX: 224 px of a 40x
    slide to 384). mpp: um per px of the slide; one of less detail than LEAST_PX per tile is refused by its reader.
    """
    return max(LEAST_PX, min(input_px, int(tile_um / mpp + 1e-6)))


def load_hex(version: ModelVersion) -> Any:
    """ml.hex.weights.HexWeights of a version, on the GPU where there is one. Refusals: those of the folder, ENCODER_MISSING."""
    from ml.hex.checkpoint import load

    wanted = version.provenance.get("encoder", {}).get("weights_sha256", "")
    with model_refusals():
        return load(weights_path(version), encoder_file(sha256=wanted) if wanted else None, device())


def encoder_file(name: str = "", sha256: str = "") -> Path | None:
    """The weight file of a registered encoder, by its checksum or the one in use of a name; None where a name's encoder needs none.

    JobRefused ENCODER_MISSING: nothing takes its place.
    """
    from ml.encoders.catalogue import encoder
    from tissueboard.model_registry.encoders import WEIGHTS

    versions = ModelVersion.objects.filter(family=ENCODER)
    if name:
        spec = encoder(name)
        if spec.weight_free or not spec.needs_weights:
            return None
        versions = versions.filter(config__encoder=name, is_current=True)
    found = versions.filter(sha256=sha256).first() if sha256 else versions.first()
    if found is None:
        sentence = f"The encoder {name or f'with the weights {sha256[:12]}'} is not in use on this server."
        raise JobRefused("ENCODER_MISSING", sentence, "Bring it into use on the page Encoders first.")
    return Path(weights_path(found)) / WEIGHTS


def device() -> str:
    """A GPU where there is one."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
