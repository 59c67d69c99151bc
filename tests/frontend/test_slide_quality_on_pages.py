"""A slide's quality in words where slides are listed, and with every figure's meaning on the case page and in the API."""

import html

import pytest

from ml.slides.quality_limits import MEANING

GOOD = {
    "tiles": 200, "focus": 0.26, "blurred_share": 0.01, "haematoxylin": 1.9, "eosin": 1.1, "h_to_e": 1.7, "glass": 243.0,
    "clipped_share": 0.0, "pen_share": 0.0,
}  # fmt: skip


@pytest.fixture
def judged(people):
    """`judged(pen_share=0.03)`: the first ready slide of the lung cohort with these figures (none: one that was never judged)."""

    def judge(**figures):
        slide = next(s for s in people.lung.slides if s.state == "ready")
        slide.facts = {"quality": GOOD | figures} if figures else {}
        slide.save()
        return slide

    return judge


def page(people, slide, kind):
    address = (
        f"/cohorts/{slide.sample.patient.cohort_id}/slides/" if kind == "list" else f"/cases/{slide.sample.patient_id}/?slide={slide.pk}"
    )
    return html.unescape(people.client("viewer").get(address).content.decode())


@pytest.mark.parametrize(
    ("figures", "word"),
    [
        ({}, "not judged"),
        ({"tiles": 150}, "no warning"),
        ({"tiles": 0}, "too little tissue"),
        ({"pen_share": 0.031}, "pen marks"),
        ({"blurred_share": 0.4}, "out of focus"),
        ({"eosin": 0.1}, "weak stain"),
        ({"haematoxylin": 5.0}, "strong stain"),
        ({"h_to_e": 9.0}, "stain out of balance"),
        ({"glass": 150.0}, "dark glass"),
        ({"clipped_share": 0.2}, "too dark to read"),
    ],
)
def test_the_word_stands_in_the_list_and_with_the_slide(people, judged, figures, word):
    slide = judged(**figures)
    assert f"</i>{word}</span>" in page(people, slide, "list") and f"</i>{word}</span>" in page(people, slide, "case")


def test_no_figure_without_its_meaning(people, judged):
    shown = page(people, judged(pen_share=0.031), "case")
    assert all(meaning in shown for meaning in MEANING.values())
    assert "3.1%" in shown and "Marker ink covers 3.1% of the slide" in shown


def test_what_could_not_be_judged_is_not_shown_as_a_number(people, judged):
    shown = page(people, judged(haematoxylin=None, eosin=None, h_to_e=None), "case")
    assert MEANING["focus"] in shown and MEANING["eosin"] not in shown


def test_the_api_gives_the_figures(people, judged):
    slide = judged(pen_share=0.031)
    told = people.api("viewer").get(f"/api/v1/slides/{slide.pk}/").json()
    assert told["quality"] == GOOD | {"pen_share": 0.031}
    slide = judged()
    assert people.api("viewer").get(f"/api/v1/slides/{slide.pk}/").json()["quality"] is None
