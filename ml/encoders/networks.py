"""Builds the network of an entry and fills it strictly from a weight file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import timm
from torch import nn

from ml.encoders.spec import EncoderError, EncoderSpec, WeightsMismatch
from ml.encoders.weights import missing, read_tensors

CLASSIFIERS = ("fc", "head", "classifier")


def build_network(spec: EncoderSpec, weights: Path | None) -> nn.Module:
    """(B, 3, input_px, input_px) float32, normalised -> (B, dim). Errors as ml.encoders.catalogue.build."""
    if spec.needs_weights and weights is None:
        raise missing(spec, f"Encoder {spec.name} needs a weight file and none was given.")
    state = read_tensors(spec, weights) if weights is not None else None
    network = make_network(spec)
    if state is not None and weights is not None:
        fill(spec, network, state, weights.name)
    return network


def make_network(spec: EncoderSpec) -> nn.Module:
    """The network without its weights."""
    if spec.weight_free:
        raise EncoderError("no_network", f"The encoder {spec.name} is fixed descriptors and has no network.", "Choose another to train.")
    network: nn.Module = timm.create_model(spec.timm_name, pretrained=False, num_classes=0, **spec.timm_kwargs)
    return network


def fill(spec: EncoderSpec, network: nn.Module, state: dict[str, Any], file: str) -> None:
    """Loads tensors strictly, except for a classifier that the encoder does not have. WeightsMismatch names tensors."""
    wanted = network.state_dict()
    classifier = [k for k in state if k not in wanted and k.split(".")[0] in CLASSIFIERS]
    state = {k: v for k, v in state.items() if k not in classifier}
    absent, extra = sorted(wanted.keys() - state.keys()), sorted(state.keys() - wanted.keys())
    shapes = sorted(k for k in wanted.keys() & state.keys() if wanted[k].shape != state[k].shape)
    if absent or extra or shapes:
        facts = [
            f"{len(keys)} {what} (e.g. {keys[0]})"
            for what, keys in (("absent", absent), ("extra", extra), ("of another shape", shapes))
            if keys
        ]
        raise WeightsMismatch("weights_mismatch", f"The weight file {file} is not encoder {spec.name}: tensors {', '.join(facts)}.")
    if not next(iter(wanted.values())).is_meta:
        network.load_state_dict(state)


def check_file(spec: EncoderSpec, weights: Path) -> None:
    """Whether a file is this encoder's, without building it in memory. Errors as build_network."""
    import torch

    state = read_tensors(spec, weights)
    with torch.device("meta"):
        network = make_network(spec)
    fill(spec, network, state, weights.name)
