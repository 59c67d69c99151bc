"""The encoders' page: what each is, what is ready, what to do for the others, and staff bringing one into use."""

import pytest
from django.urls import reverse

from tissueboard.model_registry.encoders import ensure_builtin_encoders
from tissueboard.model_registry.models import ModelVersion


@pytest.fixture
def folder(settings, tmp_path):
    """The folder where people put weight files."""
    settings.WEIGHTS_ROOT = tmp_path / "weights"
    return settings.WEIGHTS_ROOT


def page(people, words, person="viewer", **query):
    response = people.client(person).get(reverse("encoders"), query)
    assert response.status_code == 200
    return words(response)


def test_figures_terms_and_what_pretraining_saw(people, words, folder):
    text = page(people, words)
    assert "UNI, ViT-L/16 uni" in text and "1024 128 µm 224 px, 0.57 µm/px CC-BY-NC-ND-4.0 non-commercial terms to accept" in text
    assert "Saw GTEx. Not TCGA, CPTAC, PAIP. Unknown: all others." in text
    assert "Saw TCGA, CPTAC, GTEx." in text, "Phikon-v2"
    assert "No patient was seen." in text and "never called external" in text
    assert "not all verified" in text


def test_what_is_ready_links_to_its_version(people, words, folder):
    (version,) = ensure_builtin_encoders()
    response = people.client("viewer").get(reverse("encoders"), {"state": "ready"})
    assert reverse("version", args=[version.pk]) in response.content.decode()
    assert "1 of" in words(response) and "encoder he-descriptors" in words(response) and "UNI" not in words(response)


def test_the_sentence_says_what_to_accept_and_where_to_put_the_file(people, words, folder):
    staff, viewer = page(people, words, "staff", q="uni vit-l"), page(people, words, q="uni vit-l")
    assert f"Accept the terms at MahmoodLab/UNI, then put pytorch_model.bin into {folder}/uni/" in staff
    assert str(folder) not in viewer and "put pytorch_model.bin into weights/uni/" in viewer and "people who run this server" in viewer


def test_where_the_hub_is_allowed_staff_may_fetch(people, words, folder, monkeypatch):
    assert "Fetch and use it" not in page(people, words, "staff", q="phikon")
    monkeypatch.setenv("TISSUEBOARD_HUB", "1")
    assert "Fetch and use it" in page(people, words, "staff", q="phikon") and "Fetch and use it" not in page(people, words, q="phikon")


def test_the_encoder_of_hex_waits_for_its_file(people, words, folder):
    text = page(people, words, "staff", q="musk")
    assert "weights missing" in text and f"Accept the terms at xiangjx/musk, then put model.safetensors into {folder}/musk/" in text


def test_filters(people, words, folder):
    assert "H-optimus-0" in page(people, words, commercial="1") and "UNI" not in page(people, words, commercial="1")
    assert "Phikon" not in page(people, words, unseen="TCGA") and "CONCH image tower" in page(people, words, unseen="TCGA")
    assert "No encoder is like that." in page(people, words, q="nobody")


def test_a_file_in_its_folder_waits_for_staff(people, words, folder):
    (folder / "lunit-resnet50-bt").mkdir(parents=True)
    (folder / "lunit-resnet50-bt" / "bt_rn50_ep200.torch").write_bytes(b"tensors")
    assert "file is here bt_rn50_ep200.torch Use it" in page(people, words, "staff", q="lunit-resnet50-bt")
    assert "Use it" not in page(people, words, q="lunit-resnet50-bt") and "waits for a staff account" in page(
        people, words, q="lunit-resnet50-bt"
    )


def test_staff_brings_an_encoder_into_use_and_it_is_ready(people, words, folder, run_jobs):
    response = people.client("staff").post(reverse("encoder_use", args=["he-descriptors"]))
    assert response["Location"] in [reverse("job", args=[job]) for job in run_jobs()]
    version = ModelVersion.objects.get(family="encoder")
    assert version.is_current and version.name == "he-descriptors" and version.label == "fixed, nothing trained"
    assert "✓ ready encoder he-descriptors" in page(people, words, q="he-descriptors")


def test_a_wrong_file_ends_as_a_refused_job_with_its_sentence(people, folder, run_jobs):
    from tissueboard.jobs.models import Job

    (folder / "uni").mkdir(parents=True)
    (folder / "uni" / "pytorch_model.bin").write_text("<html>please log in</html>")
    people.client("staff").post(reverse("encoder_use", args=["uni"]))
    run_jobs()
    job = Job.objects.get(kind="model_registry.add_encoder")
    assert (job.state, job.error_code) == ("failed", "ENCODER_WEIGHTS_UNREADABLE") and "cannot be read as tensors" in job.error_sentence
    assert not ModelVersion.objects.filter(family="encoder").exists()


def test_others_are_refused_and_nothing_is_asked(people, folder):
    from tissueboard.jobs.models import Job

    before = Job.objects.count()
    response = people.client("manager").post(reverse("encoder_use", args=["he-descriptors"]))
    assert response.status_code == 403 and "staff account" in response.content.decode()
    assert people.client("staff").post(reverse("encoder_use", args=["nobody"])).status_code == 404
    assert Job.objects.count() == before


def test_the_models_page_leads_here(people):
    assert reverse("encoders") in people.client("viewer").get(reverse("versions")).content.decode()


def test_the_same_over_rest(people, folder):
    ensure_builtin_encoders()
    client, rows, page_number = people.api("viewer"), [], 1
    while True:
        answer = client.get("/api/v1/encoders/", {"page": page_number}).json()
        rows += answer["results"]
        if not answer["next"]:
            break
        page_number += 1
    found = {row["name"]: row for row in rows}
    assert found["he-descriptors"]["state"] == "ready" and found["he-descriptors"]["version"]
    uni = found["uni"]
    assert (uni["dim"], uni["tile_um"], uni["commercial"], uni["gated"], uni["version"]) == (1024, 128.0, False, True, None)
    assert uni["cohorts"]["GTEx"] == "yes" and "weights/uni/" in uni["sentence"] and str(folder) not in uni["sentence"]
