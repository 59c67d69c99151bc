"""Colours that stay apart for colour-blind eyes: Okabe-Ito for groups, cividis for amounts."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

# Okabe and Ito 2008, without its yellow (too light on white); each with a dash pattern, so that colour never stands alone.
GROUPS: tuple[tuple[str, str], ...] = (
    ("#0072B2", "solid"),
    ("#D55E00", "dash"),
    ("#009E73", "dot"),
    ("#CC79A7", "dashdot"),
    ("#000000", "longdash"),
    ("#E69F00", "longdashdot"),
)
# Dash patterns in SVG units, by plotly's names.
SVG_DASHES = {"solid": "", "dash": "7 4", "dot": "2 3", "dashdot": "8 3 2 3", "longdash": "12 4", "longdashdot": "12 3 2 3"}
# Boxes of matched niches, in this order on both slides.
BOXES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00")
MAP_COLOURS = "cividis"
# Purple below zero, orange above: what lowers and what raises.
SIGNED_COLOURS = "PuOr_r"


@lru_cache(maxsize=2)
def map_table(name: str = MAP_COLOURS) -> NDArray[np.uint8]:
    """(256, 3) uint8: the colours of a map from its lower to its upper limit (cividis, Nunez et al. 2018; or another of matplotlib)."""
    from matplotlib import colormaps

    table: NDArray[np.uint8] = (np.asarray(colormaps[name](np.arange(256)))[:, :3] * 255).round().astype(np.uint8)
    return table


def colour_stops(count: int = 9, name: str = MAP_COLOURS) -> list[tuple[str, str]]:
    """(offset in per cent, #rrggbb) of a colour bar, lower limit first."""
    table = map_table(name)
    rows = np.linspace(0, 255, count).round().astype(int)
    return [(f"{100 * row / 255:.1f}", "#" + "".join(f"{int(v):02x}" for v in table[row])) for row in rows]
