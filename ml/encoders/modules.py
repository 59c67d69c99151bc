"""The small parts that released encoders have around a network of timm. Attribute names are the released files' own."""

from __future__ import annotations

from typing import Any

import torch
from timm.layers import to_2tuple
from torch import Tensor, nn
from torch.nn import functional as F


class TokenVector(nn.Module):
    """The CLS token after the last normalisation, with or without the mean of the patch tokens (registers belong to neither)."""

    def __init__(self, trunk: Any, with_mean: bool) -> None:
        super().__init__()
        self.trunk, self.with_mean = trunk, with_mean

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.trunk.forward_features(x)
        if not self.with_mean:
            return tokens[:, 0]
        return torch.cat([tokens[:, 0], tokens[:, self.trunk.num_prefix_tokens :].mean(1)], dim=-1)


class AttentionPool(nn.Module):
    """CONCH: learned queries attend to all tokens (CoCa, Yu et al. 2022), with torch's multi-head attention."""

    def __init__(self, dim: int, context_dim: int, heads: int = 8, queries: int = 1) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(queries, dim))
        self.attn = nn.MultiheadAttention(dim, heads, kdim=context_dim, vdim=context_dim, batch_first=True)
        self.ln_q, self.ln_k = nn.LayerNorm(dim), nn.LayerNorm(context_dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, n, context_dim) -> (B, queries, dim)."""
        keys = self.ln_k(tokens)
        pooled: Tensor = self.attn(self.ln_q(self.query).expand(len(tokens), -1, -1), keys, keys, need_weights=False)[0]
        return pooled


class PlainAttentionPool(nn.Module):
    """CONCH v1.5: the same idea with bias-free projections."""

    def __init__(self, dim: int, context_dim: int, heads: int = 8, queries: int = 1) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Parameter(torch.randn(queries, dim))
        self.ln_q, self.ln_k = nn.LayerNorm(dim), nn.LayerNorm(context_dim)
        self.to_q = nn.Linear(dim, dim, bias=False)
        self.to_kv = nn.Linear(context_dim, 2 * dim, bias=False)
        self.to_out = nn.Linear(dim, dim, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, n, context_dim) -> (B, queries, dim)."""
        keys, values = self.to_kv(self.ln_k(tokens)).chunk(2, dim=-1)
        query = self.to_q(self.ln_q(self.query)).expand(len(tokens), -1, -1)
        q, k, v = (x.unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in (query, keys, values))
        pooled: Tensor = self.to_out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return pooled


class CocaTower(nn.Module):
    """Image tower of CONCH and CONCH v1.5: all tokens of a ViT, attention pooling, LayerNorm; no projection, no normalisation."""

    def __init__(self, trunk: Any, pool: nn.Module, dim: int) -> None:
        super().__init__()
        self.trunk, self.attn_pool_contrast, self.ln_contrast = trunk, pool, nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        vector: Tensor = self.ln_contrast(self.attn_pool_contrast(self.trunk.forward_features(x))[:, 0])
        return vector


class ProjectedTower(nn.Module):
    """KEEP: CLS token, two-layer projection, length 1."""

    def __init__(self, visual: Any, dim: int) -> None:
        super().__init__()
        self.visual = visual
        self.visual_head = nn.Sequential(nn.Linear(visual.num_features, dim), nn.GELU(), nn.Linear(dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(self.visual_head(self.visual(x)), dim=-1)


class ConvStem(nn.Module):
    """CTransPath: two strided 3x3 convolutions and a 1x1 in place of Swin's patch embedding; gives NHWC as timm's Swin wants it."""

    def __init__(
        self, img_size: Any = 224, patch_size: int = 4, in_chans: int = 3, embed_dim: int = 96, norm_layer: Any = None, **_: Any
    ) -> None:
        super().__init__()
        height, width = to_2tuple(img_size)
        self.patch_size = (patch_size, patch_size)
        self.grid_size = (height // patch_size, width // patch_size)
        narrow, wide = embed_dim // 8, embed_dim // 4
        self.proj = nn.Sequential(
            nn.Conv2d(in_chans, narrow, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(narrow),
            nn.ReLU(inplace=True),
            nn.Conv2d(narrow, wide, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU(inplace=True),
            nn.Conv2d(wide, embed_dim, 1),
        )
        self.norm = norm_layer(embed_dim) if norm_layer else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        normed: Tensor = self.norm(self.proj(x).permute(0, 2, 3, 1))
        return normed
