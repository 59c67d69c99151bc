"""The case page: its order, what it claims and what it refuses to claim."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from tissueboard.cohorts.models import Event
from tissueboard.predictions.models import Prediction

BLOCKS = ("patient", "range", "measured", "risk", "slide", "discordances", "similar", "decision")


@pytest.fixture
def case(people):
    """Call it to get the case page of lung's first patient as somebody."""

    def get(person="viewer", **query):
        return people.client(person).get(reverse("case", args=[people.lung.patient.pk]), query)

    return get


def test_blocks_come_in_the_order_in_which_a_board_reads(case):
    text = case().content.decode()
    places = [text.index(f'id="{block}"') for block in BLOCKS]
    assert places == sorted(places)


def test_measured_facts_are_never_blank(people, case, words):
    Event.objects.create(patient=people.lung.patients[1], kind="biomarker", name="MSI", state="done", value="stable", source="x")
    Event.objects.create(patient=people.lung.patient, kind="mutation", name="KRAS", state="failed", source="x")
    text = words(case())
    assert "PD-L1 biomarker 60 %" in text
    assert "EGFR mutation no result ! pending" in text
    assert "KRAS mutation no result ✕ failed" in text
    assert "MSI biomarker no record – not done" in text


def test_the_risk_carries_interval_reference_and_limits_of_its_meaning(case, words):
    text = words(case())
    assert "30%" in text and "95% interval 20% to 50%" in text
    assert "6 patients, 4 events" in text and "0.66 (95% 0.50 to 0.80)" in text and "p = 0.040" in text
    assert "+0.06 in C (stage alone 0.60)" in text
    assert "Prognostic, not predictive of benefit." in text
    assert "out-of-fold: fold 0, which never saw this patient" in text


def test_a_model_that_chance_explains_as_well_is_said_to_be_so(people, case, words):
    version = people.versions["lung"]
    version.metrics["permutation_p"] = 0.4
    version.save()
    assert "not distinguishable from chance (permutation p = 0.40)" in words(case())


def test_in_sample_means_a_stamp_and_no_risk(people, case, words):
    Prediction.objects.filter(pk=people.lung.risk.pk).update(in_sample=True)
    text = words(case())
    assert "No risk is shown. In-sample" in text
    assert "Prognostic, not predictive" not in text
    assert "in-sample: the weights saw this patient" in text


def test_a_map_by_weights_that_saw_her_is_stamped(people, case, words):
    assert "In-sample: the weights that drew this map" not in words(case())
    Prediction.objects.filter(pk=people.lung.map.pk).update(in_sample=True)
    assert "In-sample: the weights that drew this map saw this patient" in words(case())


def test_without_a_risk_the_page_says_why(people, words):
    answer = people.client("viewer").get(reverse("case", args=[people.lung.patients[4].pk]))
    assert answer.status_code == 200
    text = words(answer)
    assert "No risk is shown." in text
    assert "There is no slide of this patient yet." in text


def test_a_real_slide_with_a_model_of_simulated_tissue_is_warned_of(people, case, words):
    assert "This is a real slide, and the model was trained on simulated tissue only." in words(case())
    assert "Model trained on simulated tissue" in words(case())
    slide = people.lung.slide
    slide.simulated = True
    slide.save()
    text = words(case())
    assert "This is a real slide" not in text
    assert "Simulated tissue, drawn by a model that was trained on simulated tissue." in text


@pytest.mark.parametrize(
    ("share", "said"),
    [(0.02, "Inside: 2%"), (0.2, "Partly outside: 20%"), (0.8, "Outside: 80%"), (None, "Unknown: this map does not say")],
)
def test_the_range_is_said_in_a_sentence(people, case, words, share, said):
    people.lung.map.facts["out_of_range_share"] = share
    people.lung.map.save()
    assert said in words(case())


def test_locked_markers_are_listed_but_cannot_be_chosen(case):
    text = case().content.decode()
    start = text.index('data-name="CD68"')
    assert 'aria-disabled="true"' in text[start : start + 200]
    assert "locked: within-slide R2 below 0.10" in text[start : start + 400]
    assert 'data-name="CD8" aria-selected="true"' in text


def test_pitch_and_resolution_are_both_stated(case, words):
    assert "56 µm per cell; effective resolution 112 µm" in words(case())


def test_a_virtual_marker_is_not_compared_with_a_score_it_cannot_be_compared_with(people, case, words):
    Event.objects.create(patient=people.lung.patient, kind="biomarker", name="CD8 density", state="done", value="210", source="x")
    text = words(case())
    assert "CD8 CD8 density: 210 can be looked at in block 5" in text
    assert "no discordance is computed here" in text


def test_a_slide_that_waits_is_named_with_the_way_out_for_those_who_may(people, words):
    url = reverse("case", args=[people.lung.waiting.sample.patient_id])
    assert "See what it needs" in words(people.client("contributor").get(url))
    viewer = words(people.client("viewer").get(url))
    assert "waits for a person" in viewer and "See what it needs" not in viewer


def test_strangers_learn_nothing(people, words):
    url = reverse("case", args=[people.lung.patient.pk])
    for person in ("outsider", "stranger", "staff"):
        answer = people.client(person).get(url)
        assert answer.status_code == 404
        assert people.lung.patient.code not in words(answer)
    assert people.client("anonymous").get(url).status_code == 302


def test_the_page_asks_few_questions_of_the_database(people):
    client = people.client("viewer")
    url = reverse("case", args=[people.lung.patient.pk])
    client.get(url)
    with CaptureQueriesContext(connection) as asked:
        client.get(url)
    assert len(asked) <= 25, [q["sql"][:90] for q in asked.captured_queries]
