"""A model version: label, card, membership, provenance."""

from django.urls import reverse


def test_label_card_and_what_it_stands_on(people, words):
    text = words(people.client("outsider").get(reverse("version", args=[people.versions["hex"].pk])))
    assert "trained on simulated tissue" in text
    assert "CD8 0.40 0.60 (0.50 to 0.70) 6 0 0.00 to 1.00 ✓ open" in text
    assert "CD68 0.02" in text and "locked" in text
    assert "risk of" not in text, "versions on cohorts of others are not named"


def test_members_are_counted_never_named(people, words):
    from tissueboard.model_registry.models import Member

    Member.objects.bulk_create(
        Member(version=people.versions["lung"], fold=f, patient_hash=h * 64) for f, h in ((0, "a"), (0, "b"), (1, "a"))
    )
    text = words(people.client("viewer").get(reverse("version", args=[people.versions["lung"].pk])))
    assert "Patients seen 2" in text and "Fold 0 fitted on 2" in text and "a" * 64 not in text


def test_a_version_on_a_cohort_of_others_is_not_there(people):
    assert people.client("stranger").get(reverse("version", args=[people.versions["lung"].pk])).status_code == 404


def test_intervals_stand_on_the_card_with_the_coverage_that_was_measured(people, words):
    address, version = reverse("version", args=[people.versions["hex"].pk]), people.versions["hex"]
    before = words(people.client("viewer").get(address))
    assert "No intervals: this version was never calibrated." in before and "Coverage, tiles" not in before
    panel = list(version.panel)
    told = {"markers": panel, "alpha": 0.1, "half_width": [0.22] * 4, "patients": 38, "why_none": ""}
    version.metrics |= {"conformal": told | {"coverage": [0.91, 0.9, 0.92, None], "coverage_patients": [0.89] * 4}}
    version.save()
    text = words(people.client("viewer").get(address))
    assert "CD8 0.40 0.60 (0.50 to 0.70) 6 0 0.22 91% 89% 0.00 to 1.00 ✓ open" in text
    assert "Intervals of 90% are calibrated on 38 held-out patients" in text and "covered 90% to 92%" in text
