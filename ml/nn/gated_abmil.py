"""Gated attention pooling of a bag with several heads (Ilse et al. 2018; VirTues, Methods, ABMIL)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

# What padding scores before the softmax (VirTues, Methods).
PADDED = -1e9


class GatedAttentionPooling(nn.Module):
    """A bag (B, S, D) to (B, heads * D), head after head: z_h = sum_s a_hs x_s, a_h = softmax_s( w_h (tanh(V x_s) * sigmoid(U x_s)) ).

    V and U are shared by the heads, w_h is a head's own; all three have biases.
    """

    def __init__(self, dim: int, hidden: int = 256, heads: int = 8) -> None:
        super().__init__()
        self.dim, self.heads = dim, heads
        self.v = nn.Linear(dim, hidden)
        self.u = nn.Linear(dim, hidden)
        self.w = nn.Linear(hidden, heads)

    def forward(self, bag: Tensor, padding: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(pooled (B, heads * D), attention (B, heads, S)). padding: (B, S) bool, True where a bag has ended."""
        scores = self.w(torch.tanh(self.v(bag)) * torch.sigmoid(self.u(bag))).transpose(1, 2)
        if padding is not None:
            scores = scores.masked_fill(padding[:, None, :], PADDED)
        attention = scores.softmax(dim=-1)
        return (attention @ bag).flatten(1), attention


class GatedAbmil(nn.Module):
    """A classifier of bags: gated pooling, then one linear layer. logits: (B, classes)."""

    def __init__(self, dim: int, classes: int, hidden: int = 256, heads: int = 8) -> None:
        super().__init__()
        self.pooling = GatedAttentionPooling(dim, hidden, heads)
        self.classifier = nn.Linear(heads * dim, classes)

    def forward(self, bag: Tensor, padding: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(logits (B, classes), attention (B, heads, S))."""
        pooled, attention = self.pooling(bag, padding)
        return self.classifier(pooled), attention
