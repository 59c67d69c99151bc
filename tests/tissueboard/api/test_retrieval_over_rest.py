"""Similar cases, similar niches, references, withdrawal and the measurement of neighbours over REST."""

import pytest
from many_tissues import embed, image_of, niche_version, row_of_tissues

from tissueboard.cohorts.models import Event, Patient
from tissueboard.jobs.models import Job

V1 = "/api/v1"


@pytest.fixture
def world(people):
    """Six slides in a row; patients 1, 3, 5 of stage I at site 1, patient 2 treated with a drug of her own."""
    version = niche_version(people, "v")
    slides = row_of_tissues(people, version, 6)
    for i, slide in enumerate(slides):
        Patient.objects.filter(pk=slide.sample.patient_id).update(clinical={"stage": "I" if i % 2 else "II", "histology": f"type {i // 3}"})
    Event.objects.create(patient=slides[2].sample.patient, kind="treatment", name="tamoxifen", source="test")
    return people, version, slides


def codes(people, body, address="retrieval/", person="viewer"):
    answer = people.api(person).post(f"{V1}/{address}", body)
    assert answer.status_code == 200, answer.json()
    return [hit["patient"]["code"] for hit in answer.json()["hits"]]


def test_filters_ask_for_diagnosis_stage_treatment_and_other_sites(world):
    people, _, slides = world
    ask = {"slide": slides[0].pk}
    assert codes(people, ask) == [f"lung-00{i}" for i in range(1, 6)]
    assert codes(people, ask | {"stage": "I"}) == ["lung-001", "lung-003", "lung-005"]
    assert codes(people, ask | {"diagnosis": "type 0"}) == ["lung-001", "lung-002"]
    assert codes(people, ask | {"treatment": "tamoxifen"}) == ["lung-002"]
    assert codes(people, ask | {"other_sites_only": True, "stage": "II"}) == []
    told = people.api("viewer").post(f"{V1}/retrieval/", ask | {"stage": "IV"}).json()
    assert told["hits"] == [] and "passes these filters" in told["note"]


def test_the_answer_names_its_reference_and_the_share_of_the_ten_nearest(world):
    people, version, slides = world
    told = people.api("viewer").post(f"{V1}/retrieval/", {"slide": slides[0].pk, "k": 1}).json()
    assert told["reference"]["version"]["id"] == version.pk and told["reference"]["n_covered"] == 6
    assert told["site_n"] == 5 and told["same_site_share"] == told["same_site_expected"] == 0.4, "of all five, not of the one shown"


def test_images_are_compared_with_images(people):
    version = niche_version(people, "m", family="virtues")
    images = [image_of(people.lung.cohort, f"M{i}") for i in range(3)]
    for i, image in enumerate(images):
        embed(people, image, version, float(i), seed=i)
    told = people.api("viewer").post(f"{V1}/retrieval/", {"image": images[0].pk}).json()
    assert told["query_slide"] is None and told["query_image"]["id"] == images[0].pk and told["reference"]["measured"]
    assert [h["image"]["id"] for h in told["hits"]] == [i.pk for i in images[1:]] and told["hits"][0]["slide"] is None
    assert told["hits"][0]["percentile"] is None and told["same_site_share"] is None


def test_niches_by_id_and_by_vector_are_the_same(world):
    people, version, slides = world
    (hit, *_) = people.api("viewer").post(f"{V1}/retrieval/", {"slide": slides[0].pk, "k": 1}).json()["hits"]
    from tissueboard.retrieval.models import Niche

    niche = Niche.objects.get(pk=hit["matches"][0]["query_niche"])
    ask = people.api("viewer").post
    by_id = ask(f"{V1}/retrieval/niches/", {"niche": niche.pk, "k": 3}).json()
    vector = {"slide": slides[0].pk, "version": version.pk, "vector": niche.vector, "k": 3}
    assert ask(f"{V1}/retrieval/niches/", vector).json()["hits"] == by_id["hits"] and len(by_id["hits"]) == 3
    assert by_id["approximate"] is False and by_id["n_permitted"] == 20
    for body, code in (
        ({"niche": niche.pk, "slide": slides[0].pk}, 400),
        ({"vector": [1.0] * 6}, 400),
        (vector | {"vector": [1.0]}, 400),
        (vector | {"vector": [1e9] * 6}, 400),
        (vector | {"version": 10**9}, 404),
        ({"niche": 10**12}, 404),
    ):
        answer = ask(f"{V1}/retrieval/niches/", body)
        assert answer.status_code == code and answer.json()["sentence"].endswith("."), body
    assert people.api("stranger").post(f"{V1}/retrieval/niches/", {"niche": niche.pk}).status_code == 404


@pytest.mark.parametrize("body", [{}, {"slide": 1, "image": 1}, {"slide": "x"}, {"slide": 1, "k": 51}, {"slide": 1, "version": 0}])
def test_a_body_that_asks_for_nothing_clear_is_a_400(people, body):
    answer = people.api("viewer").post(f"{V1}/retrieval/", body)
    assert answer.status_code == 400 and answer.json()["where"]


def test_a_cohorts_references_and_a_managers_choice(world):
    people, version, _ = world
    address = f"{V1}/cohorts/{people.lung.cohort.pk}/references/"
    first = {r["version"]["name"]: r for r in people.api("viewer").get(address).json()}
    assert set(first) == {"small niche", "v"} and not first["v"]["in_use"] and first["v"]["outcome_value"] is None
    body = {"version": version.pk, "measured": False, "why": "It covers what is used."}
    assert people.api("contributor").post(address, body).status_code == 403
    after = {r["version"]["name"]: r for r in people.api("manager").post(address, body).json()}
    assert after["v"]["in_use"] and after["v"]["decided_by"] == "manager" and not after["small niche"]["in_use"]


def test_the_measurement_is_a_job(world):
    people, version, _ = world
    address, body = f"{V1}/cohorts/{people.lung.cohort.pk}/outcome-value/", {"version": version.pk}
    refused = people.api("contributor").post(address, body)
    assert refused.status_code == 400 and refused.json()["code"] == "NOTHING_TO_LEARN"
    own = people.api("contributor").post(address, {"version": people.versions["niche"].pk})
    assert own.status_code == 202 and Job.objects.get(pk=own.json()["job"]).kind == "retrieval.outcome_value"


def test_a_withdrawal_says_what_is_left(people):
    patient = people.lung.patient
    assert people.api("contributor").post(f"{V1}/patients/{patient.pk}/withdraw/", {"why": "She asked."}).status_code == 403
    assert people.api("manager").post(f"{V1}/patients/{patient.pk}/withdraw/", {"why": " "}).status_code == 400
    told = people.api("manager").post(f"{V1}/patients/{patient.pk}/withdraw/", {"why": "She asked."})
    assert told.status_code == 200 and told.json()["code"] == patient.code and told.json()["slides"] == 1
    assert people.api("manager").get(f"{V1}/patients/{patient.pk}/").status_code == 404
