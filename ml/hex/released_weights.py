"""Whole HEX checkpoints under the authors' names: `visual.*` the encoder, `regression_head*` the head, `FDS.{marker}.*` the smoothing (spec
2).

No trained HEX is public; who has one, or trains one with the released code, can use it here, and the other way round.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from ml.encoders.catalogue import encoder
from ml.encoders.networks import fill, make_network
from ml.encoders.spec import EncoderError
from ml.encoders.weights import read_tensors
from ml.hex.checkpoint import export_authors_head, load_authors_head
from ml.hex.config import HexFitConfig
from ml.hex.data import LabelScale, label_scale
from ml.hex.errors import CheckpointError
from ml.hex.fds import FeatureSmoothing, from_released, to_released
from ml.hex.model import HexModel, tower
from ml.hex.panel import HEX_PANEL
from ml.hex.weights import HexFold, HexWeights

VISUAL, FDS = "visual.", "FDS."


def load_released(
    state: Mapping[str, Tensor] | str | Path,
    encoder_name: str = "musk",
    markers: Sequence[str] = HEX_PANEL,
    encoder_weights: str | Path | None = None,
) -> tuple[HexModel, FeatureSmoothing | None]:
    """A model (eval mode) and, from a training checkpoint, its smoothing.

    state: the tensors or their file (tensors only, pickled code is never run). markers: names of the P outputs, in order. A checkpoint
    without `visual.*` holds the head alone, as the authors' demo: then encoder_weights is the encoder's own file. Errors: CheckpointError
    panel_differs, tensors_wrong, encoder_weights_missing; EncoderError of the encoder's tensors.
    """
    spec = encoder(encoder_name)
    name = Path(state).name if isinstance(state, str | Path) else "state dict"
    tensors = dict(read_tensors(spec, Path(state))) if isinstance(state, str | Path) else dict(state)
    head = load_authors_head(tensors)
    outputs, width = head.regression_head1[0].out_features, head.regression_head[0].in_features
    if outputs != len(markers):
        sentence = f"The weights of {name} predict {outputs} proteins and the panel names {len(markers)}."
        raise CheckpointError("panel_differs", sentence, "Name the panel that they were trained on, in order.", "markers")
    if width != spec.dim:
        sentence = f"The head of {name} takes vectors of {width} values and {encoder_name} gives {spec.dim}."
        raise CheckpointError("tensors_wrong", sentence, "Name the encoder that it was trained on.", "encoder")
    visual = {key.removeprefix(VISUAL): value for key, value in tensors.items() if key.startswith(VISUAL)}
    model = HexModel(_encoder(encoder_name, visual, encoder_weights, name), head, spec)
    smoothing = from_released(tensors, FDS) if any(key.startswith(FDS) for key in tensors) else None
    return model.eval().requires_grad_(False), smoothing


def _encoder(name: str, visual: dict[str, Tensor], weights: str | Path | None, file: str) -> nn.Module:
    if not visual:
        if weights is None:
            sentence = f"{file} holds no encoder (no tensor under {VISUAL}), only a head for {name}."
            raise CheckpointError("encoder_weights_missing", sentence, f"Name the weight file of {name}, too.", "encoder_weights")
        return tower(HexFitConfig(encoder=name, trained_layers=0), weights)
    spec = encoder(name)
    network = make_network(spec)
    try:
        fill(spec, network, visual, file)
    except EncoderError as error:
        raise CheckpointError("tensors_wrong", error.sentence, "Name the encoder that it was trained on.", file) from error
    return network


def export_released(model: HexModel, smoothing: FeatureSmoothing | None = None) -> dict[str, Tensor]:
    """The state dict under the authors' names; with `smoothing`, as a training checkpoint that their code goes on from."""
    tensors = {f"{VISUAL}{key}": value.detach().clone() for key, value in model.encoder.state_dict().items()}
    return {**tensors, **export_authors_head(model), **(to_released(smoothing, FDS) if smoothing is not None else {})}


def as_weights(
    model: HexModel, encoder_name: str, markers: Sequence[str], tile_um: float = 56.0, scaling: str = "p99_global", whole: bool = True
) -> HexWeights:
    """Released weights as one fold of ours. Whom they saw, and which tiles are like theirs, is not known: no range, no membership.

    scaling: the unit of its labels, in words; its values are taken as they are. whole: the encoder is kept with the head.
    """
    first, second = (layer.out_features for layer in (model.head.regression_head[0], model.head.regression_head[3]))
    config = HexFitConfig.released(
        encoder=encoder_name,
        markers=tuple(markers),
        hidden=(first, second),
        tile_um=tile_um,
        label_scaling=scaling,
        trained_layers=4 if whole else 0,
    )
    unit = LabelScale(config.label_scaling, label_scale(torch.zeros(1, len(markers)).numpy(), "none").factor)
    return HexWeights(config, unit, (HexFold(model, None, {"released": True}),), ((),))
