"""The pitch gate: which maps a VirTues may look at. A tile grid that was zoomed up is not an image of tissue."""

from __future__ import annotations

from ml.virtues.errors import VirtuesError

COARSEST = 4.0
# Sizes that were computed from a grid differ from the round number by less.
SLACK = 1e-6


def check_map_pitch(made_for_um: float, pitch_um: float, resolution_um: float | None, tile_um: float) -> None:
    """Refuses a map that is coarser than 4 pixels of a version made for images of made_for_um um per px.

    pitch_um: of the map. resolution_um: its measured effective resolution; None: unmeasured, then the tile's side tile_um stands for it (a
    finer stride of the same tile shows nothing finer). VirtuesError: map_too_coarse, with both numbers and the way out.
    """
    finest, most = tile_um if resolution_um is None else resolution_um, COARSEST * made_for_um
    limit = most * (1 + SLACK)
    if max(pitch_um, finest) <= limit:
        return
    if finest <= limit:
        what, hint = f"The map has {pitch_um:g} um per cell", "Make a dense map of the slide, or train a VirTues at the map's own pitch."
    else:
        measured = "its measured resolution" if resolution_um is not None else "the tile that each value is read from"
        what = f"The map shows nothing finer than {finest:g} um ({measured})"
        hint = "Train a VirTues at the map's own pitch; a grid that is zoomed up is not an image of tissue."
    said = f"{what}; this model was made for {made_for_um:g} um per px and takes maps of at most {most:g} um."
    raise VirtuesError("map_too_coarse", said, hint, "pitch_um")
