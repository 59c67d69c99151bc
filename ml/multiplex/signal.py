"""What the pixels of one channel are like: counted while they stream by, so that an image of any size needs the memory of a histogram.

Percentiles of 8- and 16-bit channels are exact. Of other types the histogram has 2^20 bins over the ordered bits of float32 (sign,
exponent, 11 bits of mantissa), so that a percentile is right to a relative 2^-11.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

LOW_PERCENT, HIGH_PERCENT = 1.0, 99.8
FLOAT_BITS = 20
SATURATED_SHARE = 1e-3
LIMITS_BY = f"percentiles {LOW_PERCENT:g} and {HIGH_PERCENT:g} of the pixels"


class Signal:
    """Collects rows of one channel. dtype: of the channel."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = np.dtype(dtype)
        self.exact = self.dtype.kind in "ui" and self.dtype.itemsize <= 2
        self._bottom = int(np.iinfo(self.dtype).min) if self.exact else 0
        self._counts = np.zeros(1 << (8 * self.dtype.itemsize if self.exact else FLOAT_BITS), np.int64)
        self.n = self.bad = self.zero = self.full = 0
        self.total = 0.0
        self.low, self.high = np.inf, -np.inf

    def add(self, rows: NDArray[Any]) -> None:
        """rows: any shape, of the channel's type. NaN and infinite values are counted and left out of everything else."""
        values = rows.ravel()
        if self.exact:
            bins = values if self._bottom == 0 else values.astype(np.int32) - self._bottom
            self._counts += np.bincount(bins, minlength=len(self._counts))
            return
        if self.dtype.kind == "f":
            finite = np.isfinite(values)
            if not finite.all():
                self.bad += int(values.size - np.count_nonzero(finite))
                values = values[finite]
        if not values.size:
            return
        self.zero += int(values.size - np.count_nonzero(values))
        self.total += float(values.sum(dtype=np.float64))
        self.low, self.high = min(self.low, float(values.min())), max(self.high, float(values.max()))
        if self.dtype.kind in "ui":
            self.full += int(np.count_nonzero(values == np.iinfo(self.dtype).max))
        self._counts += np.bincount(_bin_of(values.astype(np.float32)), minlength=len(self._counts))

    def _settle(self) -> None:
        """Of 8- and 16-bit channels everything else follows from how often each value occurs."""
        self.n = int(self._counts.sum())
        there = np.flatnonzero(self._counts)
        if not self.exact or not self.n:
            return
        self.low, self.high = float(there[0] + self._bottom), float(there[-1] + self._bottom)
        self.total = float(np.dot(self._counts[there].astype(np.float64), there + float(self._bottom)))
        self.zero, self.full = int(self._counts[-self._bottom]), int(self._counts[-1])

    def percentile(self, percent: float) -> float:
        """The smallest value that at least so many per cent of the pixels do not exceed."""
        self._settle()
        place = int(np.searchsorted(np.cumsum(self._counts), max(1.0, np.ceil(self.n * percent / 100.0))))
        value = float(place + self._bottom) if self.exact else _value_of(place)
        return min(max(value, self.low), self.high)

    def facts(self) -> dict[str, Any]:
        """n; min, max, mean, p1, median, p99 (stored values); zero, saturated, not_finite (shares); low, high, limits_by (for display)."""
        self._settle()
        if not self.n:
            nothing = {"min": 0.0, "max": 0.0, "mean": 0.0, "p1": 0.0, "median": 0.0, "p99": 0.0, "zero": 0.0, "saturated": 0.0}
            return {"n": 0, **nothing, "not_finite": 1.0 if self.bad else 0.0, "low": 0.0, "high": 1.0, "limits_by": "no finite pixel"}
        low, high, by = self.percentile(LOW_PERCENT), self.percentile(HIGH_PERCENT), LIMITS_BY
        if not high > low:
            # A rare marker: fewer than 0.2% of the pixels have it.
            low, high, by = self.low, self.high, "minimum and maximum (the percentiles are equal)"
        if not high > low:
            high, by = low + 1.0, "one value only"
        return {
            "n": self.n,
            "min": self.low,
            "max": self.high,
            "mean": self.total / self.n,
            "p1": self.percentile(1.0),
            "median": self.percentile(50.0),
            "p99": self.percentile(99.0),
            "zero": self.zero / self.n,
            "saturated": self.full / self.n,
            "not_finite": self.bad / (self.n + self.bad),
            "low": low,
            "high": high,
            "limits_by": by,
        }


def _bin_of(values: NDArray[np.float32]) -> NDArray[np.int64]:
    """Bins in the order of the values: the bits of a float32 order as integers once negative ones are turned round."""
    bits = values.view(np.uint32)
    ordered = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))
    return (ordered >> np.uint32(32 - FLOAT_BITS)).astype(np.int64)


def _value_of(place: int) -> float:
    """The value of a bin that is nearest to zero, so that zero and small counts come back as they are."""
    ordered = place << (32 - FLOAT_BITS)
    unused = np.uint32((1 << (32 - FLOAT_BITS)) - 1)
    bits = np.uint32(ordered & 0x7FFFFFFF) if ordered >> 31 else ~np.uint32(ordered) & ~unused
    return float(np.array([bits], np.uint32).view(np.float32)[0])
