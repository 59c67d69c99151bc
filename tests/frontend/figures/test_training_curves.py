"""Curves of a training: which lines share axes, round ticks that enclose them, and drawings that stay inside their picture."""

import re
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontend.figures.curves import nice_ticks, panels
from frontend.figures.svg_curves import draw


def curve(series, y, each=1):
    return SimpleNamespace(series=series, x=list(np.arange(len(y)) / 2), y=list(map(float, y)), each=each)


def test_losses_of_all_folds_share_axes_and_other_figures_have_their_own():
    found = panels(
        [
            curve("fold 1 validation r", [0.1, 0.2]),
            curve("fold 2 training", [3, 2]),
            curve("fold 1 training", [3, 1]),
            curve("fold 1 validation", [3, 2]),
            curve("rate", [1]),
        ]
    )
    assert [(p.name, [one.name for one in p.lines]) for p in found] == [
        ("Loss", ["fold 1 training", "fold 1 validation", "fold 2 training"]),
        ("Validation r", ["fold 1 validation r"]),
        ("Rate", ["rate"]),
    ]
    loss = {one.name: one for one in found[0].lines}
    assert loss["fold 1 training"].colour == loss["fold 1 validation"].colour != loss["fold 2 training"].colour
    assert loss["fold 1 validation"].strong and not loss["fold 1 training"].strong


def test_models_that_are_fitted_side_by_side_have_panels_of_their_own():
    names = ("MICA, fold 1 training", "MICA, fold 1 held-out C", "H&E alone, fold 1 training", "H&E alone, fold 1 held-out")
    found = panels(curve(name, [1, 2]) for name in names)
    assert [(p.name, [(one.name, one.strong) for one in p.lines]) for p in found] == [
        ("Loss, MICA", [("fold 1 training", False)]),
        ("Held-out C, MICA", [("fold 1 held-out C", True)]),
        ("Loss, H&E alone", [("fold 1 held-out", True), ("fold 1 training", False)]),
    ]


def test_a_series_without_points_is_not_drawn():
    assert panels([curve("fold 1 training", [])]) == []


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_are_few_and_enclose(low, span):
    high = low + span
    ticks = nice_ticks(low, high)
    assert 2 <= len(ticks) <= 6
    assert ticks[0] <= low + 1e-6 * span + 1e-9 * abs(low) and ticks[-1] >= high - 1e-6 * span - 1e-9 * abs(high)


@pytest.mark.parametrize("y", [[5.0], [0, 0, 0], [-3, -2.5, 4], [2000, 3, 1], [1e-9, 1e9]])
@pytest.mark.parametrize("width", [320.0, 700.0])
def test_everything_is_drawn_inside_the_picture(y, width):
    (panel,) = panels([curve("fold 1 training", y), curve("fold 1 validation", y[::-1])])
    picture = ElementTree.fromstring(draw(panel, width))
    _, _, wide, tall = map(float, picture.get("viewBox").split())
    assert wide == width
    for element in picture.iter():
        for name, most in (("x", wide), ("x1", wide), ("x2", wide), ("cx", wide), ("y", tall), ("y1", tall), ("cy", tall)):
            if element.get(name) is not None:
                assert 0 <= float(element.get(name)) <= most, (element.tag, element.attrib)
        numbers = list(map(float, re.findall(r"-?\d+\.?\d*", element.get("d", ""))))
        assert all(0 <= a <= wide and 0 <= b <= tall for a, b in zip(numbers[::2], numbers[1::2]))


def test_a_loss_that_falls_by_orders_of_magnitude_has_a_log_axis_and_says_so():
    (panel,) = panels([curve("fold 1 training", [5000, 20, 3])])
    assert panel.log and panel.y_ticks == (1.0, 10.0, 100.0, 1000.0, 10000.0) and "Loss (log scale)" in draw(panel)
    (panel,) = panels([curve("fold 1 training", [5000, 20, -3])])
    assert not panel.log


def test_the_words_for_a_screen_reader_say_where_each_line_stands():
    (panel,) = panels([curve("fold 1 training", [3, 0.25])])
    assert "fold 1 training: 3.00 at the start, now 0.250." in draw(panel)
