"""Builds the network of an entry and fills it strictly from a weight file."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch
from timm.layers import SwiGLUPacked
from torch import nn

from ml.encoders.layouts import LAYOUTS, converted, fitted_positions
from ml.encoders.modules import AttentionPool, CocaTower, ConvStem, PlainAttentionPool, ProjectedTower, TokenVector
from ml.encoders.musk import OFFSET, POSITIONS, MuskTower
from ml.encoders.spec import EncoderError, EncoderSpec, WeightsMismatch
from ml.encoders.weights import missing, read_tensors

# What entries name as text, because an entry is data.
PARTS: dict[str, Any] = {
    "swiglu_packed": SwiGLUPacked,
    "silu": nn.SiLU,
    "layernorm_1e-12": partial(nn.LayerNorm, eps=1e-12),
}


def _trunk(spec: EncoderSpec, **more: Any) -> Any:
    kwargs = {k: PARTS.get(v, v) if isinstance(v, str) else v for k, v in spec.timm_kwargs.items()}
    return timm.create_model(spec.timm_name, pretrained=False, num_classes=0, **kwargs, **more)


def _timm(spec: EncoderSpec) -> nn.Module:
    trunk: nn.Module = _trunk(spec)
    return trunk if spec.vector == "pooled" else TokenVector(trunk, with_mean=spec.vector == "cls+mean")


def _coca(spec: EncoderSpec, pool: type[nn.Module]) -> nn.Module:
    trunk = _trunk(spec)
    return CocaTower(trunk, pool(spec.dim, trunk.num_features), spec.dim)


def _refuse(spec: EncoderSpec) -> nn.Module:
    raise EncoderError("no_network", f"The encoder {spec.name} is fixed descriptors and has no network.", "Choose another to train.")


BUILDERS: dict[str, Callable[[EncoderSpec], nn.Module]] = {
    "timm": _timm,
    "coca": partial(_coca, pool=AttentionPool),
    "coca_v15": partial(_coca, pool=PlainAttentionPool),
    "keep": lambda spec: ProjectedTower(_trunk(spec), spec.dim),
    "ctranspath": lambda spec: _trunk(spec, embed_layer=ConvStem),
    "musk": lambda spec: MuskTower(spec.input_px, dim=spec.dim, **spec.timm_kwargs),
    "descriptors": _refuse,
}


def build_network(spec: EncoderSpec, weights: Path | None) -> nn.Module:
    """(B, 3, input_px, input_px) float32, normalised -> (B, dim). Errors as ml.encoders.catalogue.build."""
    if spec.needs_weights and weights is None:
        raise missing(spec, f"Encoder {spec.name} needs a weight file and none was given.")
    if weights is None:
        return make_network(spec)
    state = read_tensors(spec, weights)
    with torch.device("meta"):
        network = make_network(spec)
    if any(True for _ in network.buffers()):  # those that are computed, not loaded, need a real device
        network = make_network(spec)
    fill(spec, network, state, weights.name)
    return network


def make_network(spec: EncoderSpec) -> nn.Module:
    """The network without its weights."""
    return BUILDERS[spec.network](spec)


def checked_tensors(spec: EncoderSpec, weights: Path) -> dict[str, Any]:
    """The tensors of a file under their released names, if it is this encoder's; no network is built in memory. Errors as build_network."""
    state = read_tensors(spec, weights)
    with torch.device("meta"):
        network = make_network(spec)
    _fitting(spec, network, state, weights.name)
    return state


def fill(spec: EncoderSpec, network: nn.Module, state: dict[str, Any], file: str) -> None:
    """Loads the tensors of a released file strictly, in float32. WeightsMismatch names tensors."""
    fitting = _fitting(spec, network, state, file)
    target = network.trunk if isinstance(network, TokenVector) else network
    target.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in fitting.items()}, assign=True)


def _fitting(spec: EncoderSpec, network: nn.Module, state: dict[str, Any], file: str) -> dict[str, Any]:
    layout = LAYOUTS[spec.layout]
    target: Any = network.trunk if isinstance(network, TokenVector) else network
    wanted = target.state_dict()
    found = converted(state, layout, wanted)
    for key in [k for k in wanted.keys() & found.keys() if k.rpartition(".")[2] == "pos_embed"]:
        vit = target.get_submodule(key.rpartition(".")[0])
        prefix = 0 if vit.no_embed_class else vit.num_prefix_tokens
        found[key] = fitted_positions(found[key], tuple(wanted[key].shape), prefix, vit.patch_embed.grid_size, layout.positions)
    if isinstance(target, MuskTower) and POSITIONS in found:  # two rows that no token uses, the class token, the patches
        shape = (1, *wanted[POSITIONS].shape)
        found[POSITIONS] = fitted_positions(found[POSITIONS][None], shape, OFFSET + 1, target.grid_size, layout.positions)[0]
    absent, extra = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
    shapes = sorted(k for k in wanted.keys() & found.keys() if wanted[k].shape != found[k].shape)
    if absent or extra or shapes:
        facts = [
            f"{len(keys)} {what} (e.g. {keys[0]})"
            for what, keys in (("absent", absent), ("extra", extra), ("of another shape", shapes))
            if keys
        ]
        raise WeightsMismatch("weights_mismatch", f"The weight file {file} is not encoder {spec.name}: tensors {', '.join(facts)}.")
    return found
