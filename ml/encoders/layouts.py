"""How released weight files name their tensors, declared: what belongs to the encoder, and what it is called here.

A layout is applied in its order: keep what lies below a prefix, drop what is no part of the encoder, rename, join query, key and value.
What is left must be exactly the network's tensors (ml.encoders.networks.fill).
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

    State = dict[str, Tensor]


@dataclass(frozen=True)
class Layout:
    """below: prefix of the encoder's tensors. drop, rename: regular expressions on the names below it, matched from the start.

    join: what query, key and value are called before ".weight" and ".bias"; they become one tensor `qkv`.
    fold_cls: the position of the CLS token is added to it (networks that give positions to patches only).
    positions: how position embeddings of another grid are resampled, as the released code does.
    """

    below: str = ""
    drop: tuple[str, ...] = ()
    rename: tuple[tuple[str, str], ...] = ()
    join: tuple[str, str, str] | None = None
    fold_cls: bool = False
    positions: Literal["bicubic antialias", "bicubic", "bilinear"] = "bicubic antialias"


_HF_EMBEDDINGS = (
    (r"embeddings\.cls_token$", "cls_token"),
    (r"embeddings\.register_tokens$", "reg_token"),
    (r"embeddings\.position_embeddings$", "pos_embed"),
    (r"embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"layernorm\.", "norm."),
)
_HF_ATTENTION = (r"attention.attention.query", "attention.attention.key", "attention.attention.value")
_HF_DINOV2 = Layout(
    drop=(r"embeddings\.mask_token$",),
    rename=(
        *_HF_EMBEDDINGS,
        (r"encoder\.layer\.(\d+)\.attention\.attention\.qkv\.", r"blocks.\1.attn.qkv."),
        (r"encoder\.layer\.(\d+)\.attention\.output\.dense\.", r"blocks.\1.attn.proj."),
        (r"encoder\.layer\.(\d+)\.layer_scale([12])\.lambda1$", r"blocks.\1.ls\2.gamma"),
        (r"encoder\.layer\.(\d+)\.mlp\.weights_in\.", r"blocks.\1.mlp.fc1."),
        (r"encoder\.layer\.(\d+)\.mlp\.weights_out\.", r"blocks.\1.mlp.fc2."),
        (r"encoder\.layer\.(\d+)\.", r"blocks.\1."),
    ),
    join=_HF_ATTENTION,
    positions="bicubic",
)
_COCA_DROP = (r"proj_contrast$", r"attn_pool_caption\.", r"ln_caption\.", r"head\.")

LAYOUTS: dict[str, Layout] = {
    "timm": Layout(drop=(r"fc\.", r"head\.", r"classifier\.")),
    "hf_vit": Layout(
        drop=(r"pooler\.",),
        rename=(
            *_HF_EMBEDDINGS,
            (r"encoder\.layer\.(\d+)\.attention\.attention\.qkv\.", r"blocks.\1.attn.qkv."),
            (r"encoder\.layer\.(\d+)\.attention\.output\.dense\.", r"blocks.\1.attn.proj."),
            (r"encoder\.layer\.(\d+)\.intermediate\.dense\.", r"blocks.\1.mlp.fc1."),
            (r"encoder\.layer\.(\d+)\.output\.dense\.", r"blocks.\1.mlp.fc2."),
            (r"encoder\.layer\.(\d+)\.layernorm_before\.", r"blocks.\1.norm1."),
            (r"encoder\.layer\.(\d+)\.layernorm_after\.", r"blocks.\1.norm2."),
        ),
        join=_HF_ATTENTION,
        positions="bicubic",
    ),
    "hf_dinov2": _HF_DINOV2,
    "hf_dinov2_registers": Layout(
        drop=_HF_DINOV2.drop, rename=_HF_DINOV2.rename, join=_HF_DINOV2.join, fold_cls=True, positions="bicubic antialias"
    ),
    "coca": Layout(below="visual.", drop=_COCA_DROP, positions="bilinear"),
    "coca_v15": Layout(drop=_COCA_DROP, positions="bilinear"),
    "keep": Layout(drop=(r"text\.", r"logit_scale$")),
    "musk": Layout(
        drop=(r".*\.B\.", r"beit3\.text_embed\.", r"beit3\.vision_embed\.mask_token$", r"(language|vision)_head\.", r"logit_scale$"),
        positions="bicubic",
    ),
    # timm 0.5.4 has the downsampling at the end of a stage, today's timm at the start of the next
    "swin_054": Layout(
        drop=(r"head\.", r".*\.attn_mask$", r".*\.relative_position_index$"),
        rename=((r"layers\.0\.downsample\.", "layers.1.down."), (r"layers\.1\.downsample\.", "layers.2.down."))
        + ((r"layers\.2\.downsample\.", "layers.3.down."), (r"layers\.(\d)\.down\.", r"layers.\1.downsample.")),
    ),
}


def converted(state: State, layout: Layout, wanted: Collection[str]) -> State:
    """The encoder's tensors under the names of the network here; tensors that no rule knows keep their name, so that they are told.

    wanted: names of the network's tensors; no rule drops one of them (some networks have a normalisation in their head).
    """
    state = {k.removeprefix(layout.below): v for k, v in state.items() if k.startswith(layout.below)}
    state = {k: v for k, v in state.items() if k in wanted or not any(re.match(rule, k) for rule in layout.drop)}
    if layout.join:
        state = _joined(state, layout.join)
    for pattern, name in layout.rename:
        state = {re.sub(f"^{pattern}", name, k): v for k, v in state.items()}
    if layout.fold_cls and {"cls_token", "pos_embed"} <= state.keys():
        positions = state["pos_embed"]
        state["cls_token"] = state["cls_token"] + positions[:, :1]
        state["pos_embed"] = positions[:, 1:]
    return state


def _joined(state: State, names: tuple[str, str, str]) -> State:
    """query, key and value, where all three are there, stacked into one tensor named qkv."""
    import torch

    out = dict(state)
    joined = f"{names[0].rpartition('.')[0]}.qkv"
    for kind in (".weight", ".bias"):
        for stem in [k.removesuffix(names[0] + kind) for k in state if k.endswith(names[0] + kind)]:
            keys = [stem + name + kind for name in names]
            if all(k in state for k in keys):
                out[stem + joined + kind] = torch.cat([out.pop(k) for k in keys])
    return out


def fitted_positions(positions: Tensor, wanted: tuple[int, ...], prefix: int, grid: tuple[int, int], how: str) -> Tensor:
    """Position embedding (1, prefix + n, d) of a square grid, resampled to `grid`; as it is where the shapes agree or no square fits."""
    import torch
    from torch.nn import functional as F

    tokens, dim = positions.shape[1] - prefix, positions.shape[2]
    side = round(tokens**0.5)
    if tuple(positions.shape) == tuple(wanted) or side * side != tokens or dim != wanted[2]:
        return positions
    plane = positions[:, prefix:].float().reshape(1, side, side, dim).permute(0, 3, 1, 2)
    mode, _, antialias = how.partition(" ")
    plane = F.interpolate(plane, size=grid, mode=mode, align_corners=False, antialias=bool(antialias))
    return torch.cat([positions[:, :prefix].float(), plane.permute(0, 2, 3, 1).reshape(1, -1, dim)], dim=1)
