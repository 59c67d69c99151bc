"""Maps, hatching, timeline, the risk strip; and colours that everybody can read."""

import io
import re
import xml.etree.ElementTree as ET
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from frontend.figures.maps import channel_png, hatch_png
from frontend.figures.palette import BOXES, GROUPS, colour_stops, map_table
from frontend.figures.risk import RiskStrip, draw_strip
from frontend.figures.timeline import History, Moment, draw_history

TOKENS = Path(__file__).resolve().parents[3] / "frontend" / "static" / "css" / "tokens.css"
# Linear-light RGB as a deuteranope sees it (Vienot, Brettel and Mollon 1999).
DEUTERANOPIA = np.array([[0.29275, 0.70725, 0.0], [0.29275, 0.70725, 0.0], [-0.02234, 0.02234, 1.0]])


def pixels(png):
    return np.asarray(Image.open(io.BytesIO(png)))


def linear(colour):
    rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def test_values_beyond_a_limit_take_its_colour_and_nan_is_transparent():
    drawn = pixels(channel_png(np.array([[-5.0, 0.0, 1.0, 9.0, np.nan]], np.float32), 0.0, 1.0))
    assert drawn[0, 0].tolist() == drawn[0, 1].tolist() == [*map_table()[0].tolist(), 255]
    assert drawn[0, 2].tolist() == drawn[0, 3].tolist() == [*map_table()[255].tolist(), 255]
    assert drawn[0, 4].tolist() == [0, 0, 0, 0]


def test_limits_without_a_range_are_refused_not_stretched():
    with pytest.raises(ValueError, match="span no range"):
        channel_png(np.zeros((2, 2), np.float32), 0.3, 0.3)


def test_stripes_cover_the_far_cells_only_and_stay_small_on_a_large_map():
    far = np.zeros((3, 4), bool)
    far[1, 2] = True
    drawn = pixels(hatch_png(far))
    side = drawn.shape[0] // 3
    inside = drawn[side : 2 * side, 2 * side : 3 * side, 3]
    assert inside.any() and not inside.all(), "stripes, not a lid"
    assert drawn[..., 3].sum() == inside.sum()
    assert max(pixels(hatch_png(np.ones((1200, 10), bool))).shape) <= 6000


def test_from_1500_cells_a_side_stripes_run_over_cells_of_one_pixel():
    far = np.zeros((1600, 30), bool)
    far[100:130, 5:25] = True
    drawn = pixels(hatch_png(far))
    assert drawn.shape[:2] == far.shape and not drawn[~far, 3].any()
    assert 0.2 < (drawn[far, 3] > 0).mean() < 0.5, "stripes, not a lid"


def test_the_colour_bar_runs_from_the_lower_to_the_upper_colour():
    stops = colour_stops()
    assert stops[0] == ("0.0", "#" + "".join(f"{v:02x}" for v in map_table()[0]))
    assert stops[-1][0] == "100.0"
    lightness = [linear(colour) @ [0.2126, 0.7152, 0.0722] for _, colour in stops]
    assert lightness == sorted(lightness), "lightness alone tells low from high"


@pytest.mark.parametrize("colours", [[c for c, _ in GROUPS], list(BOXES)], ids=["groups", "boxes"])
def test_colours_stay_apart_for_a_deuteranope(colours):
    seen = {c: np.clip(DEUTERANOPIA @ linear(c), 0, 1) ** (1 / 2.2) for c in colours}
    near = {(a, b): float(np.abs(seen[a] - seen[b]).max()) for a, b in combinations(colours, 2)}
    assert min(near.values()) > 0.1, min(near, key=near.get)


def test_text_reaches_the_contrast_of_wcag_aa():
    tokens = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", TOKENS.read_text()))
    pairs = [(ink, ground) for ink in ("ink", "ink-2", "ink-3", "accent") for ground in ("surface", "ground", "sunken")]
    pairs += [(name, f"{name}-soft") for name in ("ok", "warn", "bad", "info")] + [("accent-2", "accent-soft"), ("surface", "accent")]
    for ink, ground in pairs:
        light = sorted(float(linear(tokens[name]) @ [0.2126, 0.7152, 0.0722]) + 0.05 for name in (ink, ground))
        assert light[1] / light[0] >= 4.5, (ink, ground, light[1] / light[0])


def test_the_risk_strip_says_its_numbers_to_a_screen_reader():
    drawn = draw_strip(RiskStrip(0.3, 0.2, 0.5, "24 months"))
    assert "30%, 95% interval 20% to 50%" in ET.fromstring(drawn).findtext("{http://www.w3.org/2000/svg}title")
    assert "style=" not in drawn


def test_the_timeline_names_each_moment_once_per_lane():
    moments = [
        Moment("Sampling", "sampling", "biopsy", 0.0),
        Moment("Treatment", "treatment", "cisplatin", 30.0, 120.0),
        Moment("Follow-up", "outcome", "last contact, alive", 900.0, open_end=True),
    ]
    root = ET.fromstring(draw_history(History(moments, "surgery")))
    words = [t.text for t in root.iter("{http://www.w3.org/2000/svg}text")]
    for word in ("Sampling", "biopsy", "Treatment", "cisplatin", "Follow-up", "last contact, alive", "Months since surgery"):
        assert words.count(word) == 1


def test_a_history_without_days_draws_nothing():
    assert draw_history(History([], "surgery", undated=3)) == ""


def test_a_name_that_would_run_into_its_neighbour_is_left_to_the_tooltip():
    crowd = [Moment("Treatment", "treatment", f"a treatment with a long name {i}", 10.0 * i) for i in range(6)]
    drawn = draw_history(History(crowd, "surgery"), 340.0)
    root = ET.fromstring(drawn)
    assert len([t for t in root.iter("{http://www.w3.org/2000/svg}text") if "long name" in (t.text or "")]) < 6
    assert len([t for t in root.iter("{http://www.w3.org/2000/svg}title") if "long name" in (t.text or "")]) >= 6
