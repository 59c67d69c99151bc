"""Training from the browser: what a cohort has, the form of each training, what was trained; curves of a job; versions side by side."""

import csv
import re
from io import StringIO

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from trainable_cohort import MARKERS, mapped, measured

from frontend.pages.config_form import leaves, settings, typed, values_of
from tissueboard.cohorts.models import Cohort, Membership
from tissueboard.jobs.models import Job, JobCurve
from tissueboard.model_registry.models import ModelVersion
from tissueboard.pipelines.training_config import validated
from tissueboard.pipelines.training_kinds import presets, schema_of, training_named, trainings

DAYS, EVENTS = [100.0, 250, 400, 600, 800, 1000], [1, 1, 1, 0, 1, 1]


@pytest.fixture
def lung(people):
    measured(people.lung.cohort, 4)
    return people.lung.cohort


@pytest.fixture
def url(people):
    return lambda name, *args: reverse(name, args=[people.lung.cohort.pk, *args])


def fields_of(page):
    """What a browser would send of the form: {name: [values]}."""
    text = page.content.decode()
    text = text[text.index('id="train-form"') :]
    found = {}
    for tag in re.findall(r"<input[^>]*>", text):
        attributes = dict(re.findall(r'([\w-]+)="([^"]*)"', tag))
        if "name" in attributes and (attributes["type"] != "checkbox" or " checked" in tag):
            found.setdefault(attributes["name"], []).append(attributes.get("value", "on"))
    for name, options in re.findall(r'<select[^>]*name="([\w.-]+)"[^>]*>(.*?)</select>', text, re.S):
        chosen = re.search(r"<option([^>]*) selected[^>]*>([^<]*)", options) or re.search(r"<option([^>]*)>([^<]*)", options)
        value = re.search(r'value="([^"]*)"', chosen[1])
        found[name] = [value[1] if value else chosen[2]]
    found.pop("csrfmiddlewaretoken", None)
    return found


# --- the form of a schema


@pytest.mark.parametrize("training", trainings(), ids=lambda one: one.name)
def test_a_form_sent_as_it_was_shown_gives_the_recipe_back(training):
    from django.http import QueryDict

    schema = schema_of(training)
    for preset in presets(training):
        sent = QueryDict(mutable=True)
        for one in settings(schema, preset.values, {}):
            if one.kind != "switch" or one.value:
                sent[one.field] = one.value
        values = values_of(typed(sent, schema), schema)
        given = validated(training, values).model_dump(mode="json")
        assert {name: given[name] for name in preset.values} == preset.values


def test_every_setting_has_words_and_settings_of_a_group_are_fields_too():
    for training in trainings():
        for one in settings(schema_of(training), {}, {}):
            assert one.help and one.label[0].isupper(), one
    names = [name for name, _ in leaves(schema_of(training_named("niche")))]
    assert "weights.morphology" in names and "weights" not in names


def test_what_was_typed_stays_as_it_was_typed():
    schema = schema_of(training_named("hex"))
    shown = {one.name: one for one in settings(schema, {"lr": "fast", "clip": "", "flips": ""}, {"lr": "No."})}
    assert (shown["lr"].value, shown["lr"].error, shown["clip"].value, shown["flips"].value) == ("fast", "No.", "", "")
    assert values_of({"clip": "", "flips": "", "hidden": "8, 4", "lr": ""}, schema) == {
        "clip": None, "flips": False, "hidden": ["8", "4"], "lr": "",
    }  # fmt: skip


# --- the tab


def test_the_tab_is_for_contributors_and_says_what_the_cohort_has(people, lung, url, words):
    assert url("cohort_train") in people.client("contributor").get(url("cohort")).content.decode()
    assert url("cohort_train") not in people.client("viewer").get(url("cohort")).content.decode()
    assert people.client("viewer").get(url("cohort_train")).status_code == 403
    assert people.client("outsider").get(url("cohort_train")).status_code == 404
    text = words(people.client("contributor").get(url("cohort_train")))
    assert "4 patients with measured proteins on a ready slide, 3 markers." in text
    assert "2 patients with a map of hex small hex and OS, 1 event (left out: 4 without a virtual map)" in text


def test_what_was_trained_and_what_goes_on_is_listed_and_refreshes_itself(people, lung, url, words):
    client = people.client("contributor")
    page = client.get(url("cohort_train"))
    assert "cox_summary risk of lung" in words(page) and "C 0.66 (0.50 to 0.80)" in words(page) and "risk of breast" not in words(page)
    assert 'hx-trigger="every 4s"' not in page.content.decode()
    client.post(url("cohort_train_new", "hex"), {"name": "mine", **{f"config-{k}": v for k, v in HEX.items()}, "config-markers": MARKERS})
    page = client.get(url("cohort_train"))
    assert "mine Train HEX, job" in words(page) and 'hx-trigger="every 4s"' in page.content.decode()
    part = client.get(url("cohort_train"), headers={"HX-Request": "true"}).content.decode()
    assert part.startswith('<div id="trained-rows"')


def test_many_versions_take_as_many_queries_as_few(people, lung, url):
    client = people.client("contributor")
    client.get(url("cohort_train"))

    def count(n):
        for i in range(n):
            version(people, f"{n} {i}").cohorts.set([lung])
        with CaptureQueriesContext(connection) as asked:
            assert client.get(url("cohort_train")).status_code == 200
        return len(asked)

    assert count(2) == count(12) <= 60


# --- the form

HEX = {
    "encoder": "compact-resnet-48", "epochs": "2", "folds": "2", "loss": "mse", "max_seconds": "600", "label_scaling": "p99_global",
    "hidden": "256, 128", "dropout": "0.5", "batch": "64", "lr": "0.003", "optimiser": "adamw", "weight_decay": "0.01",
    "schedule": "cosine", "flips": "yes",
}  # fmt: skip


def test_the_form_as_it_is_shown_can_be_sent(people, lung, url, words):
    client = people.client("contributor")
    page = client.get(url("cohort_train_new", "hex"))
    text = words(page)
    assert "Learning rate lr" in text and "passes over the fold's tiles" in text and "Source: paper: 120." in text
    assert "12 labelled tiles" in text and "steps over all folds" in text and "Markers markers 3 of 3" in text
    assert "tile_um" not in page.content.decode()
    answer = client.post(url("cohort_train_new", "hex"), {**fields_of(page), "name": "as shown"}, follow=True)
    job = Job.objects.get(params__name="as shown")
    assert answer.redirect_chain == [(reverse("job", args=[job.pk]), 302)] and "The training of as shown is asked for." in words(answer)
    assert "markers" not in job.params["config"] and job.params["config"]["epochs"] == 6.0 and job.params["config"]["clip"] == 1.0


def test_some_markers_can_be_chosen(people, lung, url):
    client = people.client("contributor")
    sent = {**fields_of(client.get(url("cohort_train_new", "hex"))), "name": "few", "config-markers": MARKERS[1:]}
    assert client.post(url("cohort_train_new", "hex"), sent).status_code == 302
    assert Job.objects.get(params__name="few").params["config"]["markers"] == MARKERS[1:]


def test_each_error_stands_at_its_field_and_nothing_typed_is_lost(people, lung, url, words):
    client = people.client("contributor")
    sent = fields_of(client.get(url("cohort_train_new", "hex"))) | {"name": "small hex", "config-lr": "fast", "config-dropout": "1.5"}
    sent |= {"config-epochs": "7", "config-markers": ["CD8"]}
    answer = client.post(url("cohort_train_new", "hex"), sent)
    text, page = words(answer), answer.content.decode()
    assert answer.status_code == 400 and "Nothing was started. 2 fields do not fit; each says what it takes." in text
    assert "lr is “fast”; it takes a number above 0 and at most 1." in text and "dropout is “1.5”; it takes" in text
    assert re.search(r'id="config-lr"[^>]*value="fast"[^>]*aria-invalid="true"', page)
    assert 'value="7"' in page and 'value="small hex"' in page and "1 of 3" in text
    assert '<details class="all-settings" open>' in page, "what is wrong is not hidden"
    # The next try corrects them and meets the name.
    again = fields_of(answer) | {"config-lr": "0.01", "config-dropout": "0.1"}
    answer = client.post(url("cohort_train_new", "hex"), again)
    assert answer.status_code == 409 and "There is a hex version named small hex already." in words(answer)
    assert client.post(url("cohort_train_new", "hex"), {**fields_of(answer), "name": "better"}).status_code == 302
    assert not Job.objects.filter(params__name="small hex").exists()


def test_a_recipe_fills_in_the_settings_and_keeps_what_is_no_part_of_it(people, lung, url, words):
    client = people.client("contributor")
    sent = fields_of(client.get(url("cohort_train_new", "hex"))) | {"name": "kept", "recipe": "released", "config-markers": ["CD8"]}
    answer = client.post(url("cohort_train_new", "hex"), {**sent, "action": "recipe"}, headers={"HX-Request": "true"})
    found = fields_of(answer)
    assert answer.status_code == 200 and answer.content.decode().lstrip().startswith('<form id="train-form"')
    released = training_named("hex") and presets(training_named("hex"))[1].values
    assert found["config-lr"] == [str(released["lr"])] and found["config-fds"] == ["yes"] and found["config-clip"] == [""]
    assert found["name"] == ["kept"] and found["config-markers"] == ["CD8"] and found["recipe"] == ["released"]
    # Its encoder needs weights that are not here: said at once, at the field.
    assert "encoder is “musk”." in answer.content.decode() and "It cannot start yet: 2 fields say what is missing." in words(answer)
    assert not Job.objects.filter(params__name="kept").exists()


def test_looking_again_after_a_choice_counts_anew_and_keeps_the_settings(people, lung, url, words):
    other = Cohort.objects.create(name="second")
    Membership.objects.create(user=people.contributor, cohort=other, role="contributor")
    measured(other, 2)
    client = people.client("contributor")
    sent = fields_of(client.get(url("cohort_train_new", "hex"))) | {"config-epochs": "9", "cohorts": [str(other.pk)], "action": "look"}
    answer = client.post(url("cohort_train_new", "hex"), sent, headers={"HX-Request": "true"})
    assert "6 patients with measured proteins" in words(answer) and fields_of(answer)["config-epochs"] == ["9"]
    sent = fields_of(answer) | {"name": "both"}
    assert client.post(url("cohort_train_new", "hex"), sent).status_code == 302
    assert set(Job.objects.get(params__name="both").cohorts.all()) == {lung, other}
    assert client.post(url("cohort_train_new", "hex"), {**sent, "cohorts": [str(people.breast.cohort.pk)]}).status_code == 404


def test_what_cannot_start_says_why_before_it_is_tried(people, url, words):
    page = people.client("contributor").get(url("cohort_train_new", "hex"))
    assert "It cannot start yet: 1 field says what is missing." in words(page)
    assert "0 patients have a ready slide with a measured panel; training takes 4." in words(page)
    assert re.search(r'<button class="primary" type="submit" disabled>', page.content.decode())


def test_a_risk_is_trained_from_the_form(people, lung, url, words):
    hex_version = people.versions["hex"]
    hex_version.metrics["card"]["CD20"] = hex_version.metrics["card"]["CD8"]
    hex_version.save()
    mapped(lung, hex_version, DAYS, EVENTS)
    client = people.client("contributor")
    page = client.get(url("cohort_train_new", "risk"))
    assert "small hex (8 patients with maps)" in words(page) and "OS (12 patients, 9 events)" in words(page)
    answer = client.post(url("cohort_train_new", "risk"), fields_of(page) | {"name": "r", "config-horizon_days": "5000"})
    assert answer.status_code == 400 and "nobody was followed longer than 1000 days" in words(answer)
    assert client.post(url("cohort_train_new", "risk"), fields_of(page) | {"name": "r"}).status_code == 302
    assert Job.objects.get(params__name="r").params["version"] == hex_version.pk
    assert client.post(url("cohort_train_new", "risk"), fields_of(page) | {"name": "s", "version": "999999"}).status_code == 400
    page = client.post(url("cohort_train_new", "risk"), fields_of(page) | {"name": "s", "endpoint": ""})
    assert page.status_code == 409 and "No endpoint is named." in words(page)


def test_a_setting_of_a_group_is_sent_in_its_group(people, lung, url):
    mapped(lung, people.versions["hex"], DAYS[:1], EVENTS[:1])
    client = people.client("contributor")
    sent = fields_of(client.get(url("cohort_train_new", "niche"))) | {"name": "n", "config-weights.morphology": "0"}
    assert client.post(url("cohort_train_new", "niche"), sent).status_code == 302
    assert Job.objects.get(params__name="n").params["config"]["weights"]["morphology"] == 0


def test_an_unknown_training_and_a_low_role(people, lung, url):
    assert people.client("contributor").get(url("cohort_train_new", "astrology")).status_code == 404
    assert people.client("viewer").get(url("cohort_train_new", "hex")).status_code == 403


# --- curves on the page of a job


def test_the_page_of_a_job_draws_its_curves(people, words):
    job = people.lung.jobs["done"]
    page = people.client("viewer").get(reverse("job", args=[job.pk]))
    assert "<svg" not in page.content.decode()
    JobCurve.objects.create(job=job, series="fold 1 training", x=[0.5, 1.0], y=[2.0, 1.5], each=4)
    JobCurve.objects.create(job=job, series="fold 1 held-out C", x=[1.0], y=[0.61])
    page = people.client("viewer").get(reverse("job", args=[job.pk]))
    assert page.content.decode().count("<svg") == 4, "two panels, each for a wide window and for a phone"
    assert "Each point is the mean of up to 4 values." in words(page) and "Held-out C" in words(page)


# --- versions side by side


def version(people, name, family="hex", **facts):
    common = {"label": "trained here", "config": {}, "key": "none", "sha256": "0" * 64, "provenance": {}, "licence": "Apache-2.0"}
    return ModelVersion.objects.create(family=family, name=name, **common | facts)


def with_figures(people, name, r, lr, inputs="a"):
    row = {"marker": "CD8", "r_within": r, "r_within_lower": 0.1, "r_within_upper": 0.9, "r2_within": r / 2, "mse": 0.01234, "patients": 4}
    metrics = {"median_r_within": r, "median_r2_within": r / 2, "median_mse": 0.0123, "markers": [row, {**row, "marker": "CD20"}]}
    return version(
        people, name, config={"lr": lr, "epochs": 3}, metrics=metrics, provenance={"inputs": {"assay 1": inputs * 64}, "facts": {}}
    )


def test_two_versions_of_a_family_stand_side_by_side(people, words):
    a, b = with_figures(people, "first", 0.5, 0.01), with_figures(people, "second", 0.6, 0.02)
    page = people.client("viewer").get(reverse("versions_compare"), {"id": [a.pk, b.pk]})
    text = words(page)
    assert "within-slide r 0.50 0.60" in text and "MSE 0.0123 0.0123" in text
    assert "CD8 0.50 0.25 0.0123 0.60 0.30 0.0123" in text and page.content.decode().count("best") == 2
    assert "Settings that differ Setting first second lr 0.01 0.02" in text and "1 setting is the same epochs 3" in text
    assert "not made from the same inputs" not in text
    other = with_figures(people, "third", 0.6, 0.02, inputs="b")
    page = people.client("viewer").get(reverse("versions_compare"), {"id": [a.pk, other.pk]})
    assert "These versions were not made from the same inputs" in words(page)


def test_risk_models_are_compared_by_their_c(people, words):
    twin = version(people, "twin", family="cox_summary", metrics={"c": 0.7, "n": 6, "events": 4, "endpoint": "OS"})
    page = people.client("viewer").get(reverse("versions_compare"), {"id": [people.versions["lung"].pk, twin.pk]})
    assert "C 0.66 (0.50 to 0.80) 0.70" in words(page) and "n 6 6 events 4 4 endpoint OS OS" in words(page)


def test_what_cannot_be_compared(people, words):
    client = people.client("viewer")
    a = version(people, "a")
    many = [version(people, f"more {i}").pk for i in range(5)]
    page = client.get(reverse("versions_compare"), {"id": [a.pk, people.versions["lung"].pk]})
    assert page.status_code == 400 and "of different families" in words(page)
    page = client.get(reverse("versions_compare"), {"id": many})
    assert page.status_code == 400 and "At most 4 versions" in words(page)
    for query in ({}, {"id": [a.pk]}, {"id": [a.pk, a.pk]}):
        page = client.get(reverse("versions_compare"), query)
        assert page.status_code == 200 and "Choose two versions or more." in words(page)
    assert client.get(reverse("versions_compare"), {"id": [a.pk, people.versions["breast"].pk]}).status_code == 404
    assert client.get(reverse("versions_compare"), {"id": ["x", a.pk]}).status_code == 404


def test_the_list_of_models_leads_to_the_comparison(people):
    page = people.client("viewer").get(reverse("versions")).content.decode()
    assert f'<form method="get" action="{reverse("versions_compare")}">' in page
    assert f'name="id" value="{people.versions["hex"].pk}"' in page


def test_figures_per_marker_are_taken_away_as_csv(people):
    client = people.client("viewer")

    def read(pk):
        return list(csv.reader(StringIO(client.get(reverse("version_metrics_csv", args=[pk])).content.decode())))

    rows = read(with_figures(people, "first", 0.5, 0.01).pk)
    assert rows[0] == ["# Research use only"] and rows[4][:3] == ["marker", "r_within", "r_within_lower"] and rows[5][:2] == ["CD8", "0.5"]
    rows = read(people.versions["hex"].pk)
    assert rows[4][:3] == ["marker", "r", "r_lower"] and len(rows) == 5 + 4
    rows = read(people.versions["lung"].pk)
    assert rows[4] == ["metric", "value"] and ["c", "0.66"] in rows
    assert client.get(reverse("version_metrics_csv", args=[people.versions["breast"].pk])).status_code == 404
