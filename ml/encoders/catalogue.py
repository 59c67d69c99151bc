"""The catalogue of patch encoders. An entry is data: any network that gives one vector per tile can be added by a line.

Nothing is fetched unless a person allowed it (ml.encoders.weights): most encoders are behind terms of use that only a person can accept.
Importing this module imports no torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ml.encoders.entries import ENTRIES
from ml.encoders.spec import EncoderError, EncoderSpec, WeightsMismatch, WeightsMissing

if TYPE_CHECKING:
    from torch import nn

__all__ = ["CATALOGUE", "EncoderError", "EncoderSpec", "WeightsMismatch", "WeightsMissing", "architecture", "build", "encoder"]

CATALOGUE: dict[str, EncoderSpec] = {spec.name: spec for spec in ENTRIES}


def encoder(name: str) -> EncoderSpec:
    """The entry of that name, or for "timm:NAME" one made of timm's own description of its model NAME.

    EncoderError("unknown_encoder") names the ones there are.
    """
    if name.startswith("timm:"):
        from ml.encoders.timm_entries import timm_entry

        return timm_entry(name)
    if name not in CATALOGUE:
        raise EncoderError("unknown_encoder", f"There is no encoder {name!r}.", f"Choose one of {', '.join(CATALOGUE)}, or timm:NAME.")
    return CATALOGUE[name]


def build(name: str, weights: str | Path | None = None) -> nn.Module:
    """The network of an entry: (B, 3, input_px, input_px) float32, normalised -> (B, dim) float32.

    weights: a local .safetensors or .bin/.pth file (tensors only, never pickled code), loaded strictly except for a classifier
    that the encoder does not have. An entry that needs weights and gets none raises WeightsMissing; it is never built untrained.
    """
    from ml.encoders.networks import build_network

    return build_network(encoder(name), Path(weights) if weights is not None else None)


def architecture(name: str) -> nn.Module:
    """The network of an entry without its weights: for a reader that fills every tensor of it, such as a checkpoint that holds them."""
    from ml.encoders.networks import make_network

    return make_network(encoder(name))
