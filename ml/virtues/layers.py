"""Pre-norm transformer blocks over packed tokens (VirTues, Methods, Encoder; spec 2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from ml.nn.rotary import rotate
from ml.virtues.plan import Sequences

Angles = tuple[Tensor, Tensor]


class Attention(nn.Module):
    """Multi-head attention with separate projections; which tokens meet is told by each call."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.output = (nn.Linear(dim, dim) for _ in range(4))

    def heads_of(self, x: Tensor, angles: Angles | None) -> tuple[Tensor, Tensor, Tensor]:
        """query, key, value, each (..., heads, head_dim), the first two rotated. angles: cos and sin (..., 1, head_dim)."""
        query, key, value = (layer(x).unflatten(-1, (self.heads, -1)) for layer in (self.query, self.key, self.value))
        if angles is not None:
            query, key = rotate(query, *angles), rotate(key, *angles)
        return query, key, value

    def packed(self, x: Tensor, sequences: Sequences, angles: Angles | None) -> Tensor:
        """(n, dim) packed tokens, each attending within its own sequence."""
        query, key, value = self.heads_of(x, angles)
        found = []
        for bucket in sequences.buckets:
            keys = None if bucket.keys is None else bucket.keys[:, None, None, :]
            taken = (part[bucket.index].transpose(1, 2) for part in (query, key, value))
            out = scaled_dot_product_attention(*taken, attn_mask=keys).transpose(1, 2)
            found.append((out.flatten(0, 1) if bucket.keys is None else out[bucket.keys]).flatten(1))
        return self.output(torch.cat(found)[sequences.inverse])

    def dense(self, x: Tensor, angles: Angles | None, last: int) -> Tensor:
        """(b, last, dim): each of the last tokens of a row of x (b, n, dim) attends to all of its row."""
        query = self.query(x[:, -last:]).unflatten(-1, (self.heads, -1))
        key, value = (layer(x).unflatten(-1, (self.heads, -1)) for layer in (self.key, self.value))
        if angles is not None:
            query, key = rotate(query, *(part[-last:] for part in angles)), rotate(key, *angles)
        out = scaled_dot_product_attention(query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2))
        return self.output(out.transpose(1, 2).flatten(2))

    def probabilities(self, x: Tensor) -> Tensor:
        """(b, heads, n, n) softmax [query, key] without positions, of x (b, n, dim)."""
        query, key, _ = (part.transpose(1, 2) for part in self.heads_of(x, None))
        return (query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5).softmax(dim=-1)


class Block(nn.Module):
    """u = x + attention(norm(x)); y = u + feed_forward(norm(u)). GELU is the exact one."""

    def __init__(self, dim: int, hidden: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=1e-5), nn.LayerNorm(dim, eps=1e-5)
        self.attention = Attention(dim, heads)
        self.expand, self.contract = nn.Linear(dim, hidden), nn.Linear(hidden, dim)

    def forward(self, x: Tensor, sequences: Sequences, angles: Angles | None = None) -> Tensor:
        """x: (n, dim) packed tokens with their sequences; the same shape."""
        return self._fed(x + self.attention.packed(self.norm1(x), sequences, angles))

    def dense(self, x: Tensor, angles: Angles, last: int | None = None) -> Tensor:
        """(b, n, dim), or of its last tokens only: where nobody looks at the others any more, they are keys but are not computed."""
        last = last or x.shape[1]
        return self._fed(x[:, -last:] + self.attention.dense(self.norm1(x), angles, last))

    def _fed(self, x: Tensor) -> Tensor:
        return x + self.contract(torch.nn.functional.gelu(self.expand(self.norm2(x))))
