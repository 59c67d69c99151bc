"""Measured proteins on pages: sending a table, reading what is wrong with it, and finding which slides have them."""

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse
from label_tables import MARKERS, changed, csv_of

from tissueboard.assays.models import Assay

pytestmark = pytest.mark.django_db


@pytest.fixture
def form(people):
    return reverse("upload_labels", args=[people.lung.cohort.pk])


def send(people, form, content=None, person="contributor", **typed):
    slide = people.lung.slide
    file = SimpleUploadedFile("labels.csv", csv_of(slide) if content is None else content)
    return people.client(person).post(form, {"file": file, "slide": slide.pk, "kind": "codex", "tile_um": "56", **typed})


def test_the_form_offers_the_ready_slides_of_this_cohort(people, form, words):
    page = people.client("contributor").get(form, {"slide": people.lung.slides[1].pk})
    text, html = words(page), page.content.decode()
    assert people.lung.slide.name in text and people.lung.waiting.name not in text and people.breast.slide.name not in text
    assert f'value="{people.lung.slides[1].pk}" selected' in html and 'name="tile_um" inputmode="decimal" value="56"' in html


def test_what_was_added_is_said(people, form, words):
    text = words(send(people, form))
    assay = Assay.objects.get()
    assert "The measured proteins are added" in text and "CD8, CD68" in text and "the values look like 0..1" in text
    assert f"12 tiles of {assay.slide.name}, patient {assay.sample.patient.code}, with 2 markers" in text
    assert "These measurements are there already" in words(send(people, form))


def test_only_checking_adds_nothing_and_keeps_what_was_typed(people, form, words):
    page = send(people, form, dry_run="yes", panel="Bern 2")
    assert "The table can be added" in words(page) and "Nothing was kept" in words(page) and not Assay.objects.exists()
    assert 'value="Bern 2"' in page.content.decode() and f'value="{people.lung.slide.pk}" selected' in page.content.decode()


def test_everything_that_is_wrong_is_said_with_its_row(people, form, words):
    slide = people.lung.slide
    page = send(people, form, changed(csv_of(slide, n=9), 4, "x", "5000"), markers="CD4\nCD8")
    text = words(page)
    assert page.status_code == 400 and not Assay.objects.exists() and "The table was not added" in text
    for said in ("COORDS_OUTSIDE", "row 4", "1 of 9 tiles lie off the slide", "TOO_FEW_TILES", "9 measured tiles"):
        assert said in text
    assert "CD4\nCD8</textarea>" in page.content.decode()
    page = send(people, form, changed(csv_of(slide), 5, "CD68", "-1"))
    assert "LABELS_RANGE" in words(page) and "labels.csv, row 5, column CD68" in words(page)


def test_a_form_without_slide_file_or_number_is_answered_with_a_sentence(people, form, words):
    client = people.client("contributor")
    assert "No slide of this cohort was chosen" in words(client.post(form, {}))
    assert "No slide of this cohort was chosen" in words(send(people, form, slide=people.breast.slide.pk))
    assert "No table was chosen" in words(client.post(form, {"slide": people.lung.slide.pk}))
    assert "no number of um: wide" in words(send(people, form, tile_um="wide"))
    other = send(people, form)
    assert other.status_code == 200
    exists = send(people, form, csv_of(people.lung.slide, seed=1))
    assert exists.status_code == 409 and "LABELS_EXIST" in words(exists)
    assert "are added" in words(send(people, form, csv_of(people.lung.slide, seed=1), replace="yes"))


def test_the_slides_tab_lists_which_slides_are_measured(people, form, words):
    slides, all_ = (reverse(name, args=[people.lung.cohort.pk]) for name in ("cohort_slides", "cohort_labels"))
    viewer = people.client("viewer")
    assert "No slide has measured proteins yet" in words(viewer.get(slides)) and "Add measured proteins" not in words(viewer.get(slides))
    send(people, form, tile_um="112")
    for address in (slides, all_):
        text = words(viewer.get(address))
        assert f"{people.lung.slide.name} LU-000 codex CD8 and 1 more {len(MARKERS)} 12 112 0..1" in text
        assert "The tiles lie 112 px apart" in text
        assert "Add measured proteins" in words(people.client("contributor").get(address))
    assert people.lung.slide.name not in words(people.client("stranger").get(reverse("cohort_labels", args=[people.breast.cohort.pk])))


@pytest.mark.parametrize("n", [1, 2])
def test_the_list_asks_as_many_queries_for_many_slides_as_for_one(people, form, n, django_assert_max_num_queries):
    for slide in people.lung.slides[:n]:
        send(people, form, csv_of(slide), slide=slide.pk)
    client = people.client("viewer")
    with django_assert_max_num_queries(9):
        client.get(reverse("cohort_labels", args=[people.lung.cohort.pk]))
