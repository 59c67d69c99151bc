"""Bringing in a clinical table and a slide by browser, step by step."""

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse

from tissueboard.cohorts.models import Endpoint, Patient
from tissueboard.intake.models import Import
from tissueboard.jobs.models import Job

TABLE = "patient_id,age,survival_months,censorship\nLU-000,51,10,1\nLU-001,62,20.5,0\nLU-900,70,5,0\n"


def send(people, person="contributor", text=TABLE, name="table.csv"):
    url = reverse("upload_table", args=[people.lung.cohort.pk])
    return people.client(person).post(url, {"file": SimpleUploadedFile(name, text.encode())})


@pytest.fixture
def received(people):
    send(people)
    return Import.objects.latest("pk")


def form_of(import_, **changes):
    """What the browser would send: the mapping as proposed, with changes."""
    form = {"action": "check", "patient": import_.options["patient"], "decimal": ".", "create_patients": "yes"}
    for i, entry in enumerate(import_.options["endpoints"]):
        form |= {f"endpoint-{i}-use": "yes", f"endpoint-{i}-unit": entry["unit"], f"endpoint-{i}-coding": entry["coding"]}
        form[f"endpoint-{i}-zero"] = entry["time_zero"]
    for i, entry in enumerate(import_.options["variables"]):
        form |= {f"variable-{i}-use": "yes", f"variable-{i}-kind": entry["kind"], f"variable-{i}-unit": entry["unit"]}
    return form | changes


def test_a_table_is_checked_first_and_asks_what_an_event_is(people, words, received):
    text = words(people.client("contributor").get(reverse("import_", args=[received.pk])))
    assert "A person has to decide." in text and "EVENT_CODING_NEEDED" in text
    assert "2 events “0” means it happened" in text and "1 events “1” means it happened" in text
    assert not Patient.objects.filter(code="LU-900").exists()


def test_the_answer_is_checked_then_confirmed_and_only_then_imported(people, words, received):
    client, url = people.client("contributor"), reverse("import_", args=[received.pk])
    assert client.post(url, form_of(received, **{"endpoint-0-coding": "event=0"})).status_code == 302
    text = words(client.get(url))
    assert "Nothing stands in the way." in text and "3 patients, 2 events as read now" in text
    assert not Patient.objects.filter(code="LU-900").exists()
    assert client.post(url, {"action": "confirm"}).status_code == 302
    assert "Imported." in words(client.get(url))
    assert Endpoint.objects.get(patient__code="LU-001", name="OS").event is True
    assert Endpoint.objects.get(patient__code="LU-000", name="OS").event is False


def test_a_coding_typed_by_hand_and_a_left_out_column_count(people, received):
    form = form_of(received, **{"endpoint-0-own": "censored=1"})
    form.pop("variable-0-use")
    people.client("contributor").post(reverse("import_", args=[received.pk]), form)
    received.refresh_from_db()
    assert received.options["endpoints"][0]["coding"] == "censored=1"
    assert received.options["variables"] == []


def test_nonsense_in_the_mapping_is_a_sentence_on_the_page(people, words, received):
    answer = people.client("contributor").post(reverse("import_", args=[received.pk]), form_of(received, **{"endpoint-0-own": "maybe"}))
    assert answer.status_code == 400
    assert "'maybe' does not say which values are the event." in words(answer)


def test_a_discarded_file_is_not_imported(people, words, received):
    client, url = people.client("contributor"), reverse("import_", args=[received.pk])
    client.post(url, {"action": "discard"})
    assert "cannot be imported" in words(client.get(url))
    assert client.post(url, {"action": "confirm"}).status_code == 409


def test_findings_name_row_and_column(people, words):
    send(people, text="patient_id,OS_MONTHS,OS_STATUS\nA,ten,1:DECEASED\nB,3,0:LIVING\n")
    text = words(people.client("contributor").get(reverse("import_", args=[Import.objects.latest("pk").pk])))
    assert "row 2" in text and "OS_MONTHS" in text and "cannot be imported as it is" in text


def test_no_file_is_said(people, words):
    answer = people.client("contributor").post(reverse("upload_slide", args=[people.lung.cohort.pk]), {"patient_code": "X1"})
    assert answer.status_code == 400
    assert "No file was chosen." in words(answer) and 'value="X1"' in answer.content.decode()


def test_an_uploaded_slide_becomes_a_page_that_follows_the_job(people, words):
    url = reverse("upload_slide", args=[people.lung.cohort.pk])
    file = SimpleUploadedFile("slide.svs", b"<html>not a slide</html>")
    answer = people.client("contributor").post(url, {"file": file, "stain": "H&E", "mpp": "0.5"})
    import_ = Import.objects.latest("pk")
    assert answer.url == reverse("import_", args=[import_.pk])
    page = people.client("contributor").get(answer.url)
    assert f"job {import_.job_id}" in words(page) and 'hx-trigger="every 2s"' in page.content.decode()


def test_a_viewer_may_not_bring_anything_in(people, words):
    answer = send(people, "viewer")
    assert answer.status_code == 403 and "This takes the role contributor" in words(answer)
    assert send(people, "outsider").status_code == 404


def test_a_waiting_slide_shows_what_was_found_and_asks_for_the_size_of_a_pixel(people, words):
    client, url = people.client("contributor"), reverse("slide_attention", args=[people.lung.waiting.pk])
    text = words(client.get(url))
    assert "The file does not say how large a pixel is. Give the µm per pixel below: about 0.25" in text and "MPP_MISSING" in text
    wrong = client.post(url, {"mpp": "-1"})
    assert wrong.status_code == 400 and "have to be a positive number" in words(wrong)


@pytest.mark.parametrize(("code", "asks"), [("COMPANION_MISSING", False), ("NO_TISSUE", True), ("MPP_DISAGREES", True)])
def test_the_size_of_a_pixel_is_asked_for_only_where_it_may_help(people, words, code, asks):
    slide = people.lung.waiting
    slide.findings = [slide.findings[0] | {"code": code}]
    slide.save()
    answer = people.client("contributor").get(reverse("slide_attention", args=[slide.pk]))
    assert ('name="mpp"' in answer.content.decode()) is asks
    assert ("bring the slide again" in words(answer)) is not asks
    assert ("into one zip" in words(answer)) is (code == "COMPANION_MISSING"), "a form sends one file, not a folder"


def test_the_size_of_a_pixel_starts_a_job_that_its_page_follows(people, words):
    client, slide = people.client("contributor"), people.lung.waiting
    url = reverse("slide_attention", args=[slide.pk])
    answer = client.post(url, {"mpp": "0,5"})
    job = Job.objects.latest("pk")
    assert answer.url == reverse("job", args=[job.pk]) and job.params == {"slide": slide.pk, "mpp": 0.5}
    page = client.get(answer.url)
    assert f"About LU-002 {slide.name}" in words(page) and 'hx-trigger="every 2s"' in page.content.decode()
    waiting = client.get(url)
    assert f"being checked again with 0.5 µm per pixel. Follow job {job.pk}" in words(waiting)
    assert 'name="mpp"' not in waiting.content.decode()
    slide.refresh_from_db()
    assert slide.state == "needs attention", "the request itself does not wait for the check"


def test_a_check_that_did_not_help_leads_back_to_the_slide(people, words):
    client, slide = people.client("contributor"), people.lung.waiting
    job = people.lung.jobs["done"]
    Job.objects.filter(pk=job.pk).update(kind="intake.override_mpp", params={"slide": slide.pk, "mpp": 50.0})
    page = client.get(reverse("job", args=[job.pk]))
    assert "needs attention" in words(page) and reverse("slide_attention", args=[slide.pk]) in page.content.decode()
    viewer = people.client("viewer").get(reverse("job", args=[job.pk]))
    assert reverse("slide_attention", args=[slide.pk]) not in viewer.content.decode()
    assert 'name="mpp"' in client.get(reverse("slide_attention", args=[slide.pk])).content.decode()


def test_no_page_hints_at_an_option_of_the_command_line(people, words):
    finding = people.lung.waiting.findings[0] | {"hint": "Give the scanner's value: --mpp 0.25 for 40x."}
    Import.objects.filter(pk=people.lung.import_.pk).update(kind="slide", findings=[finding])
    url = reverse("import_", args=[people.lung.import_.pk])
    text = words(people.client("contributor").get(url))
    assert "--mpp" not in text and "Give the µm per pixel when you send the slide again" in text
    Import.objects.filter(pk=people.lung.import_.pk).update(facts={"slide": people.lung.waiting.pk})
    assert "Give the µm per pixel on the page of the slide" in words(people.client("contributor").get(url))


def test_the_form_says_beforehand_that_a_simulated_cohort_takes_no_real_slide(people):
    url = reverse("upload_slide", args=[people.lung.cohort.pk])
    assert "a real slide is refused here" not in people.client("contributor").get(url).content.decode()
    people.lung.cohort.simulated = True
    people.lung.cohort.save()
    assert "a real slide is refused here" in people.client("contributor").get(url).content.decode()
