"""MUSK's vision tower: BEiT-3, a pre-norm ViT with a second LayerNorm inside attention and feed-forward (spec section 2.1).

Xiang et al., Nature 2025, doi:10.1038/s41586-024-08378-w; Wang et al., "Image as a Foreign Language", CVPR 2023. Each of its modules has a
vision expert "A" and a text expert "B"; only "A" is here. Attribute names are the released file's own.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

EPS = 1e-5
OFFSET = 2  # position of token t is row t + 2 of the table
POSITIONS = "beit3.encoder.embed_positions.A.weight"


class Expert(nn.Module):
    """The vision half of a module that has a text half as well."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.A = module

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.A(x))


def _norm(dim: int) -> Expert:
    return Expert(nn.LayerNorm(dim, eps=EPS))


class Attention(nn.Module):
    """Multi-head self-attention, LayerNorm, output projection."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.k_proj, self.v_proj, self.q_proj, self.out_proj = (Expert(nn.Linear(dim, dim)) for _ in range(4))
        self.inner_attn_ln = _norm(dim)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.q_proj, self.k_proj, self.v_proj))
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return cast(Tensor, self.out_proj(self.inner_attn_ln(mixed)))


class FeedForward(nn.Module):
    """Linear, exact GELU in float32, LayerNorm, Linear."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        self.ffn_layernorm = nn.LayerNorm(hidden, eps=EPS)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.fc1(x)
        return cast(Tensor, self.fc2(self.ffn_layernorm(F.gelu(hidden.float()).type_as(hidden))))


class Layer(nn.Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x)). No dropout, as released."""

    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.self_attn, self.self_attn_layer_norm = Attention(dim, heads), _norm(dim)
        self.ffn, self.final_layer_norm = Expert(FeedForward(dim, hidden)), _norm(dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.self_attn_layer_norm(x))
        return cast(Tensor, x + self.ffn(self.final_layer_norm(x)))


class PatchTokens(nn.Module):
    """(B, 3, S, S) -> (B, 1 + (S / patch)^2, dim): the class token and one token per patch."""

    def __init__(self, dim: int, patch: int) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.proj = nn.Conv2d(3, dim, patch, stride=patch)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.proj(images).flatten(2).transpose(1, 2)
        return torch.cat([self.cls_token.expand(len(tokens), -1, -1).to(tokens.dtype), tokens], dim=1)


class Layers(nn.Module):
    """Positions, all layers, last LayerNorm."""

    def __init__(self, tokens: int, dim: int, heads: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.embed_positions = Expert(nn.Embedding(tokens + OFFSET, dim))
        self.layers = nn.ModuleList(Layer(dim, heads, hidden) for _ in range(layers))
        self.layer_norm = _norm(dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x + cast(nn.Embedding, self.embed_positions.A).weight[OFFSET:]
        for layer in self.layers:
            x = layer(x)
        return cast(Tensor, self.layer_norm(x))


class Beit3(nn.Module):
    """Patches and layers, under the released names."""

    def __init__(self, tokens: int, dim: int, heads: int, hidden: int, layers: int, patch: int) -> None:
        super().__init__()
        self.vision_embed = PatchTokens(dim, patch)
        self.encoder = Layers(tokens, dim, heads, hidden, layers)

    def forward(self, images: Tensor) -> Tensor:
        return cast(Tensor, self.encoder(self.vision_embed(images)))


class MuskTower(nn.Module):
    """(B, 3, S, S) float32 of mean 0.5 and deviation 0.5 -> (B, dim): the class token after the last LayerNorm. Sizes are MUSK's own.

    with_head: also holds `vision_head`, the bias-free projection to the space shared with texts, which the vector does not go through.
    """

    def __init__(
        self,
        image_px: int = 384,
        patch: int = 16,
        dim: int = 1024,
        heads: int = 16,
        hidden: int = 4096,
        layers: int = 24,
        with_head: bool = False,
    ) -> None:
        super().__init__()
        side = image_px // patch
        self.image_px, self.grid_size = image_px, (side, side)
        self.beit3 = Beit3(1 + side * side, dim, heads, hidden, layers, patch)
        self.vision_head = nn.Linear(dim, dim, bias=False) if with_head else None

    def tokens(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, 1 + patches, dim) after the last LayerNorm."""
        return cast(Tensor, self.beit3(images))

    def forward(self, images: Tensor) -> Tensor:
        return self.tokens(images)[:, 0]

    def projected(self, images: Tensor) -> Tensor:
        """(B, dim) of length 1, for comparison with texts. Needs a tower with_head."""
        if self.vision_head is None:
            raise ValueError("This MUSK tower was made without its vision_head.")
        return F.normalize(self.vision_head(self(images)), dim=-1)


def multiscale(tower: MuskTower, images: Tensor) -> Tensor:
    """(B, 3, S, S) -> (B, 2 dim): the class token of the image, and the mean of those of the four quarters of the image at twice its size.

    MUSK's own option for classification; HEX does not use it.
    """
    px = tower.image_px
    large = F.interpolate(images.float(), size=(2 * px, 2 * px), mode="bicubic", align_corners=False).to(images.dtype)
    quarters = [large[:, :, y : y + px, x : x + px] for y in (0, px) for x in (0, px)]
    return torch.cat([tower(images), torch.stack([tower(quarter) for quarter in quarters]).mean(0)], dim=-1)
