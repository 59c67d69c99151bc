"""The pitch gate: both numbers in the sentence, the way out in the hint, and the measured resolution before the tile."""

import pytest

from ml.virtues.errors import VirtuesError
from ml.virtues.pitch import check_map_pitch


@pytest.mark.parametrize(
    ("made_for", "pitch", "resolution", "tile"),
    [(1.0, 4.0, 3.0, 56.0), (1.0, 4.0, 4.0, 4.0), (56.0, 56.0, None, 56.0), (14.0, 14.0, None, 56.0), (14.0, 14.000001, 40.0, 56.0)],
)
def test_maps_of_up_to_four_pixels_pass(made_for, pitch, resolution, tile):
    check_map_pitch(made_for, pitch, resolution, tile)


@pytest.mark.parametrize(
    ("given", "numbers", "way"),
    [
        ((1.0, 56.0, None, 56.0), ("nothing finer than 56 um", "1 um per px", "at most 4 um"), "the map's own pitch"),
        ((1.0, 3.5, None, 56.0), ("the tile that each value is read from", "at most 4 um"), "zoomed up"),
        ((1.0, 4.0, 112.0, 56.0), ("nothing finer than 112 um (its measured resolution)",), "own pitch"),
        ((1.0, 8.0, 3.0, 56.0), ("The map has 8 um per cell", "at most 4 um"), "Make a dense map"),
        ((14.0, 14.0, 112.0, 56.0), ("112 um", "14 um per px", "at most 56 um"), "own pitch"),
    ],
)
def test_coarser_ones_are_refused_with_both_numbers(given, numbers, way):
    with pytest.raises(VirtuesError) as told:
        check_map_pitch(*given)
    assert told.value.code == "map_too_coarse" and way in told.value.hint
    assert all(number in told.value.sentence for number in numbers) and told.value.sentence.endswith(".") and told.value.hint.endswith(".")
