"""Multiplex images on pages: sending one, finding it in its cohort and case, looking at it, giving what is missing."""

import json
import re
from html import unescape

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse
from multiplex_pictures import PANEL, draw, image_of, write_ome

from frontend.pages.assays import Channel, first_shown
from tissueboard.assays.models import MultiplexImage
from tissueboard.intake.models import Import
from tissueboard.jobs.models import Job

FACTS = {"min": 0.0, "max": 9.0}


def page_of(image):
    return reverse("multiplex_image", args=[image.pk])


def test_a_ready_image_shows_its_channels_their_facts_and_source(people, words):
    image = image_of(people.lung.sample)
    page = people.client("viewer").get(page_of(image))
    text = words(page)
    assert "CODEX / PhenoCycler" in text and "never on one scale with virtual proteins" in text
    assert all(name in text for name in PANEL) and f"{image.sealed_sha256[:12]}" in text
    median = f"{image.facts['signal'][1]['median']:.4g}"
    row = re.search(r'<tr data-channel="1".*?</tr>', page.content.decode(), re.DOTALL)
    assert row and "CD3" in row.group() and f">{median}<" in row.group()


def test_the_script_is_told_where_tiles_are_and_what_to_draw(people, client):
    image = image_of(people.lung.sample)
    page = people.client("viewer").get(page_of(image)).content.decode()
    data = json.loads(unescape(re.search(r'data-multiplex="([^"]*)"', page).group(1)))
    assert (data["width"], data["height"], data["mpp"], data["whole"]) == (400, 300, 0.5, True)
    assert [c["name"] for c in data["channels"]] == list(PANEL)
    assert [(c["low"], c["high"]) for c in data["channels"]] == [(f["low"], f["high"]) for f in image.facts["signal"]]
    assert [one["channel"] for one in data["shown"]] == [0, 1, 2]
    shown = "&".join(f"c={one['channel']}:{one['colour'][1:]}:0:99" for one in data["shown"])
    assert client.get(f"{data['tiles']}0/1_1.jpeg?{shown}").status_code == 200


def test_nuclei_come_first_and_empty_channels_are_not_drawn():
    rows = [Channel(i, name, FACTS) for i, name in enumerate(("CD3", "CD8", "Ir191_DNA1", "PanCK", "CD4"))]
    assert first_shown(rows) == [2, 0, 1, 3]
    rows[0] = Channel(0, "CD3", {"min": 3.0, "max": 3.0})
    assert first_shown(rows) == [2, 1, 3, 4] and first_shown(rows[:1]) == []


def test_a_waiting_image_asks_a_contributor_and_tells_a_viewer_who_can(people, words):
    image = image_of(people.lung.sample, "needs attention")
    asked = people.client("contributor").get(page_of(image))
    assert 'name="channels"' in asked.content.decode() and "Give their names below" in words(asked)
    told = people.client("viewer").get(page_of(image))
    assert 'name="channels"' not in told.content.decode() and "A contributor of lung has to say what is missing." in words(told)


def test_names_and_size_are_sent_to_a_job(people, words):
    image, client = image_of(people.lung.sample, "needs attention"), people.client("contributor")
    refused = client.post(page_of(image), {"channels": "", "mpp": "wide"})
    assert refused.status_code == 400 and "positive number" in words(refused) and 'value="wide"' in refused.content.decode()
    sent = client.post(page_of(image), {"channels": "DAPI\nCD3\nPanCK", "mpp": "0,65"})
    job = Job.objects.get(kind="assays.complete_multiplex")
    assert sent["Location"] == reverse("job", args=[job.pk])
    assert job.params == {"image": image.pk, "channels": list(PANEL), "mpp": 0.65}
    assert f"Follow job {job.pk}" in words(client.get(page_of(image)))
    assert people.client("viewer").post(page_of(image), {"mpp": "1"}).status_code == 403


def test_the_cohort_lists_its_images_beside_its_slides(people, words):
    client, address = people.client("viewer"), reverse("cohort_slides", args=[people.lung.cohort.pk])
    assert "No image of measured channels" in words(client.get(address))
    image, theirs = image_of(people.lung.sample), image_of(people.breast.sample)
    for url in (address, reverse("cohort_multiplex", args=[people.lung.cohort.pk])):
        text = words(client.get(url))
        assert image.name in text and "0.2 × 0.15" in text and theirs.name not in text
    assert "Add a multiplex image" not in words(client.get(address))
    assert "Add a multiplex image" in words(people.client("contributor").get(address))


def test_the_case_page_names_them_as_measured_and_apart_from_maps(people, words):
    client, address = people.client("viewer"), reverse("case", args=[people.lung.patient.pk])
    assert "Measured in situ" not in words(client.get(address))
    image = image_of(people.lung.sample)
    page = client.get(address)
    measured = page.content.decode().split('id="measured"')[1].split('id="risk"')[0]
    assert page_of(image) in measured and "share no scale with them" in measured and "DAPI, CD3, PanCK" in measured


@pytest.fixture
def own_store(people, settings, tmp_path):
    settings.STORE_ROOT = tmp_path / "store"


@pytest.mark.usefixtures("own_store")
def test_an_image_is_sent_followed_and_completed_in_the_browser(people, tmp_path, run_jobs, words):
    client, path = people.client("contributor"), write_ome(tmp_path / "a.ome.tif", draw(), names=None)
    form = reverse("upload_multiplex", args=[people.lung.cohort.pk])
    assert 'value="LU-001"' in client.get(form, {"patient": "LU-001"}).content.decode()
    assert client.post(form, {"patient_code": "LU-001"}).status_code == 400
    wrong = client.post(form, {"file": SimpleUploadedFile("a.tif", b"x"), "mpp": "x"})
    assert wrong.status_code == 400 and "positive number" in words(wrong)
    sent = client.post(form, {"file": SimpleUploadedFile("a.ome.tif", path.read_bytes()), "patient_code": "LU-001", "technology": "imc"})
    received = Import.objects.get(kind="multiplex")
    assert sent["Location"] == reverse("import_", args=[received.pk])
    run_jobs()
    image = MultiplexImage.objects.get()
    page = client.get(sent["Location"])
    assert page_of(image) in page.content.decode() and "Say what the image needs" in words(page)
    client.post(page_of(image), {"channels": ", ".join(PANEL)})
    run_jobs()
    image.refresh_from_db()
    assert (image.state, image.technology, image.sample.patient.code) == ("ready", "imc", "LU-001")
    assert "See the image" in words(client.get(sent["Location"]))
    assert "given by contributor" in words(client.get(page_of(image)))
