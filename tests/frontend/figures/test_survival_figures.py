"""A Kaplan-Meier figure: what it says, and that both hands draw the same."""

import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from frontend.figures import plotly_km, svg_km
from frontend.figures.survival import survival_figure
from tissueboard.outcomes.services import AtRisk, CurveGroup, Excluded, HazardRatio, LogRankTest, Median, SurvivalResult

MONTH = 30.4375


def group(name, **changes):
    """Three patients: an event at month 6, one censored at month 12, an event at month 24."""
    found = CurveGroup(
        name=name,
        n=3,
        events=2,
        time=[6 * MONTH, 12 * MONTH, 24 * MONTH],
        survival=[2 / 3, 2 / 3, 0.0],
        lower=[0.05, 0.05, None],
        upper=[0.95, 0.95, None],
        n_risk=[3, 2, 1],
        n_event=[1, 0, 1],
        n_censor=[0, 1, 0],
        median=Median(24 * MONTH, 6 * MONTH, None),
        at_risk=AtRisk([0.0, 12 * MONTH, 24 * MONTH], [3, 2, 1]),
    )
    return replace(found, **changes)


@pytest.fixture
def result():
    return SurvivalResult(
        cohort="lung <A&B>",
        endpoint="OS",
        time_zero="surgery",
        unit="days",
        confidence="95% log-log",
        group_by="risk",
        group_rule="median, declared beforehand",
        n=6,
        events=4,
        groups=[group("higher risk"), group("lower risk")],
        logrank=LogRankTest(4.2, 1, 0.0004),
        hazard_ratio=HazardRatio("higher risk", "lower risk", 2.5, 1.1, 6.0, 0.03),
        ph_test_p=0.4,
        notes=["A note."],
        excluded=[Excluded("stage not recorded", 1)],
    )


def test_times_are_months_of_30_4375_days(result):
    curve = survival_figure(result).curves[0]
    assert curve.time == (0.0, 6.0, 12.0, 24.0)
    assert curve.survival == pytest.approx((1.0, 2 / 3, 2 / 3, 0.0))
    assert survival_figure(result, "days").curves[0].time[1] == pytest.approx(6 * MONTH)


def test_everything_that_a_figure_must_say_is_said(result):
    figure = survival_figure(result)
    said = " ".join((figure.caption, *figure.statements))
    for words in (
        "6 patients, 4 events",
        "time zero is surgery",
        "95% log-log",
        "Log-rank, two-sided: chi-square 4.20 on 1 df, p < 0.001.",
        "Hazard ratio, higher risk against lower risk: 2.50 (95% 1.10 to 6.00)",
        "Test of proportional hazards: p = 0.400.",
        "Groups: median, declared beforehand.",
        "A note.",
        "1 patient is left out: stage not recorded.",
    ):
        assert words in said
    assert figure.curves[0].median == "24.0 months (95% 6.0 to not reached)"


def test_limits_that_do_not_exist_are_not_drawn(result):
    assert len(survival_figure(result).curves[0].band) == 2
    never = replace(result, groups=[group("all", lower=[None] * 3, upper=[None] * 3)])
    figure = survival_figure(never)
    assert "polygon" not in svg_km.draw(figure) and not [t for t in plotly_km.draw(figure).data if t.fill]


def test_the_svg_is_well_formed_without_inline_style_and_with_numbers_at_risk(result):
    drawn = svg_km.draw(survival_figure(result, marked="higher risk", horizon_days=24 * MONTH))
    root = ET.fromstring(drawn)
    words = [t.text for t in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "style=" not in drawn
    assert words.count("3") == 2 and words.count("2") == 2 and words.count("1") == 2
    assert "higher risk (n 3, 2 events): this patient's group" in words
    assert "24 months" in words
    assert "lung <A&B>" in root.findtext("{http://www.w3.org/2000/svg}title")


def test_a_suppressed_group_shows_its_size_and_no_curve(result):
    hidden = CurveGroup("rare", 2, None, suppressed=True)
    figure = survival_figure(replace(result, groups=[group("common"), hidden]))
    assert [c.name for c in figure.drawn] == ["common"]
    assert "rare (n 2): too few to draw" in svg_km.draw(figure)
    picture = plotly_km.draw(figure)
    assert not [t for t in picture.data if "rare" in (t.name or "")]
    assert any("rare: n 2, too few to draw" in a.text for a in picture.layout.annotations)


def test_plotly_draws_the_same_corners_and_numbers(result):
    figure = survival_figure(result)
    picture = plotly_km.draw(figure)
    lines = [t for t in picture.data if t.line.shape == "hv"]
    assert [tuple(t.x) for t in lines] == [c.time for c in figure.curves]
    assert [tuple(t.y) for t in lines] == [c.survival for c in figure.curves]
    assert len({t.line.dash for t in lines}) == 2, "dash as well as colour"
    numbers = [a.text for a in picture.layout.annotations if a.text.isdigit()]
    assert numbers == ["3", "2", "1"] * 2


def test_bands_can_be_left_out(result):
    picture = plotly_km.draw(survival_figure(result), bands=False)
    assert not [t for t in picture.data if t.fill]


def test_the_marked_curve_is_drawn_last_and_thicker(result):
    drawn = svg_km.draw(survival_figure(result, marked="higher risk"))
    assert drawn.index('stroke-width="1.8"') < drawn.index('stroke-width="3"')
