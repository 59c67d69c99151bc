"""Starting a training: what it takes, what is refused before anything is queued, and what the job is given."""

import pytest
from trainable_cohort import MARKERS, TILES, mapped, measured

from ml import families
from tissueboard.assays.models import Assay, Panel
from tissueboard.cohorts.models import Cohort, Membership
from tissueboard.errors import NotVisible, RoleMissing, TissueboardError
from tissueboard.jobs import registry
from tissueboard.jobs.models import Job, State
from tissueboard.model_registry.models import ModelVersion
from tissueboard.pipelines import training_checks
from tissueboard.pipelines.errors import ConfigInvalid, UnknownTraining
from tissueboard.pipelines.training import default_choice, offers, open_trainings, plan_training, start_training, trained_here
from tissueboard.pipelines.training_config import allowed, property_at, validated
from tissueboard.pipelines.training_kinds import TRAININGS, config_class, presets, schema_of, training_named, trainings

DAYS, EVENTS = [100.0, 250, 400, 600, 800, 1000], [1, 1, 1, 0, 1, 1]


@pytest.fixture
def lung(people):
    return people.lung.cohort


@pytest.fixture
def hex_version(people):
    """A protein model that predicts two of the declared markers of risk; two patients of lung have a map of it."""
    version = people.versions["hex"]
    for name in ("CD20", "HIF1A"):
        version.metrics["card"][name] = {**version.metrics["card"]["CD8"], "locked": False}
    version.save()
    return version


@pytest.fixture
def mica(monkeypatch):
    """The family and its job, where this release has them not yet."""
    if "mica" not in families.FAMILIES:
        task = families.Task("fit", (), (), "ml.mica.train:fit", "ml.mica.config:MicaFitConfig")
        monkeypatch.setitem(families.FAMILIES, "mica", families.Family("mica", "MICA", "", (task,)))
    monkeypatch.setitem(registry._handlers, "predictions.fit_mica", registry.Handler("predictions.fit_mica", "gpu", "MICA", 60, 120, print))


@pytest.fixture
def start(people, lung):
    def run(what, values=None, name="new", user="contributor", cohorts=None, **choices):
        return start_training(getattr(people, user), what, cohorts=cohorts or [lung], name=name, values=values or {}, choices=choices)

    return run


@pytest.fixture
def refused(start):
    """Call it as `start`: the refusal. Nothing is queued."""

    def run(*args, **more):
        before = Job.objects.count()
        with pytest.raises(TissueboardError) as caught:
            start(*args, **more)
        assert Job.objects.count() == before
        error = caught.value
        assert error.sentence.endswith(".") and (not error.hint or error.hint.endswith("."))
        return error

    return run


def version_of(family, name, **facts):
    common = {"label": "released", "config": {}, "key": "k", "sha256": "0" * 64, "provenance": {}, "licence": "x"}
    return ModelVersion.objects.create(family=family, name=name, **common | facts)


def fits(refused, **values):
    error = refused("hex", values)
    assert isinstance(error, ConfigInvalid) and error.status == 400 and error.code == "CONFIG_INVALID"
    return dict(error.fields)


# --- what there is


def test_every_declared_training_names_a_family_and_what_it_chooses():
    for one in TRAININGS.values():
        assert (
            set(one.chooses) <= {"version", "encoder", "endpoint", "model", "start", "bank"}
            and one.needs.endswith(".")
            and one.words.endswith(".")
        )
    for one in trainings():
        assert set(one.decided) | set(one.usual) <= set(config_class(one).model_fields)
        assert not set(one.decided) & set(schema_of(one)["properties"])


def test_a_training_without_its_family_or_its_job_is_not_offered(people, lung, monkeypatch):
    assert {"hex", "niche", "risk"} <= {one.name for one in trainings()}
    monkeypatch.delitem(families.FAMILIES, "cox_summary")
    monkeypatch.delitem(registry._handlers, "retrieval.fit_niches")
    assert not {"niche", "risk"} & {one.name for one in trainings()} and len(offers(people.contributor, lung)) == len(trainings())
    with pytest.raises(UnknownTraining, match=r"There is no training risk\."):
        start_training(people.contributor, "risk", cohorts=[lung], name="x", values={})


def test_recipes_fill_in_all_settings_and_the_published_one_is_valid():
    one = training_named("hex")
    found = {preset.name: preset.values for preset in presets(one)}
    assert list(found) == ["default", "released"]
    for values in found.values():
        assert set(values) == set(schema_of(one)["properties"]) - {"markers"}
        assert validated(one, values).model_dump(mode="json", include=values.keys()) == values
    assert found["released"] != found["default"] and found["released"]["fds"] is True


# --- rights


def test_it_takes_a_contributor_of_every_cohort(people, start, lung):
    measured(lung, 4)
    with pytest.raises(RoleMissing, match="contributor"):
        start("hex", user="viewer")
    with pytest.raises(NotVisible):
        start("hex", user="outsider")
    with pytest.raises(NotVisible):
        start("hex", cohorts=[lung, people.breast.cohort])


# --- HEX


def test_hex_gets_all_settings_and_what_the_data_decide_stays_open(start, lung, people):
    measured(lung, 4)
    job = start("hex", {"epochs": "3", "lr": 0.001}, name="  of   four ")
    assert (job.kind, job.state, job.created_by) == ("predictions.fit_hex", State.QUEUED, people.contributor)
    assert list(job.cohorts.all()) == [lung] and job.params["cohorts"] == [lung.pk] and job.params["name"] == "of four"
    config = job.params["config"]
    assert (config["epochs"], config["lr"], config["folds"]) == (3.0, 0.001, 2) and not {"tile_um", "markers"} & set(config)
    # What the job makes of it is what was checked.
    families.config("hex", "fit", {"markers": tuple(MARKERS), "tile_um": 56.0, **config})
    assert start("hex", {"markers": MARKERS[:2]}, name="two").params["config"]["markers"] == MARKERS[:2]


def test_the_size_is_told_before(people, lung):
    measured(lung, 4)
    about = {"cohorts": [lung], "name": "x", "values": {"epochs": 4, "batch": 3, "folds": 2, "max_seconds": 50}}
    size = plan_training(people.contributor, "hex", **about).size
    assert (size.patients, size.tiles, size.most_seconds) == (4, 4 * TILES, 100)
    assert size.steps == 2 * (4 * 4 * TILES // 2 // 3) and size.seconds is None


def test_every_setting_that_does_not_fit_is_named_with_what_was_given_and_what_is_allowed(refused, lung):
    measured(lung, 4)
    told = fits(refused, lr=-1, folds="many", loss="huge", hidden=[1], nonsense=3, flips="perhaps", clip=0, encoder="resnet-of-mine")
    assert told["lr"] == "lr is -1; it takes a number above 0 and at most 1."
    assert told["folds"] == "folds is “many”; it takes a whole number from 2 to 50."
    assert told["loss"] == "loss is “huge”; it takes one of “mse”, “adaptive”."
    assert told["hidden"] == "hidden is 1; it takes 2 whole numbers."
    assert told["flips"] == "flips is “perhaps”; it takes true or false."
    assert told["clip"] == "clip is 0; it takes a number above 0, or nothing."
    assert told["nonsense"].startswith("There is no setting nonsense; there are encoder, markers,")
    assert told["encoder"].startswith("encoder is “resnet-of-mine”. There is no encoder 'resnet-of-mine'; there are ")
    assert len(told) == 8 and next(iter(told)) == "encoder" and list(told)[-1] == "nonsense"


def test_the_refusal_says_where_in_the_request(refused, lung):
    measured(lung, 4)
    error = refused("hex", {"lr": 5, "epochs": 0})
    assert error.where == "config.epochs" and error.as_dict()["code"] == "CONFIG_INVALID"
    assert [one["where"] for one in error.as_dict()["errors"]] == ["config.epochs", "config.lr"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "9" * 400, 10**400, "1e999"], ids=lambda v: str(v)[:6])
def test_numbers_without_end_are_refused(refused, lung, value):
    measured(lung, 4)
    assert "epochs" in fits(refused, epochs=value)
    assert "seed" in fits(refused, seed=value)


def test_settings_that_do_not_fit_together_are_told_in_the_config_s_own_words(refused, lung):
    measured(lung, 4)
    told = fits(refused, fds=True, fds_start_smooth=20, epochs=5)
    assert list(told) == [""] and told[""].startswith("Smoothing would start at epoch 20")


def test_settings_that_do_not_fit_the_data_are_refused(refused, lung):
    measured(lung, 4)
    told = fits(refused, markers=["CD8", "CD4"], folds=5, tile_um=28)
    assert told["markers"] == "markers holds CD4, which was not measured here; it takes some of CD8, CD20, CD68."
    assert told["folds"] == "folds is 5; 4 patients make at most as many folds."
    assert told["tile_um"] == "tile_um is 28; the assays decide it, and theirs is 56."


def test_an_encoder_whose_weights_are_not_here_is_refused_until_it_is_in_use(people, refused, lung, start):
    measured(lung, 5)
    assert "musk" in fits(refused, encoder="musk")["encoder"].lower()
    version_of("encoder", "musk", config={"encoder": "musk"})
    assert training_checks.why_no_encoder(people.contributor, "musk") == ""
    assert start("hex", {"encoder": "musk"}).params["config"]["encoder"] == "musk"


def test_too_few_measured_patients(refused, start, lung, people):
    measured(lung, 3)
    error = refused("hex")
    assert (error.code, error.where) == ("TOO_FEW_PATIENTS", "cohorts") and error.sentence.startswith("3 patients have a ready slide")
    # Four of two cohorts are enough; so are four where one waited for its slide.
    Membership.objects.create(user=people.contributor, cohort=people.breast.cohort, role="contributor")
    measured(people.breast.cohort, 1)
    assert start("hex", cohorts=[people.breast.cohort, lung]).params["cohorts"] == sorted((lung.pk, people.breast.cohort.pk))
    Assay.objects.filter(sample__patient__cohort=lung).first().slide.__class__.objects.filter(name__startswith="TR").update(
        state="checking"
    )
    assert refused("hex").sentence.startswith("0 patients")


def test_assays_of_two_panels_or_sizes(refused, lung):
    measured(lung, 4)
    measured(lung, 1, tile_um=28.0)
    assert refused("hex").code == "PANELS_DIFFER"


def test_of_two_assays_of_a_slide_the_later_one_counts(people, lung):
    measured(lung, 4)
    other = Panel.objects.create(name="other", markers=["CD8", "CD3"])
    for one in Assay.objects.filter(sample__patient__cohort=lung):
        Assay.objects.create(sample=one.sample, slide=one.slide, panel=other, kind="imc", tile_um=56.0, key=one.key, sha256="1" * 64)
    size = plan_training(people.contributor, "hex", cohorts=[lung], name="x", values={"markers": ["CD3"]}).size
    assert (size.patients, size.tiles) == (4, 4 * TILES)


# --- names


def test_a_name_that_a_version_has_or_a_training_will_give_is_refused_now(refused, start, lung, people):
    measured(lung, 4)
    error = refused("hex", name="small hex")
    assert (error.code, error.where, error.status) == ("NAME_TAKEN", "name", 409) and "small hex already" in error.sentence
    job = start("hex", name="mine")
    assert start("hex", name="mine") == job, "asking twice finds the first"
    assert "under way" in refused("hex", {"epochs": 9}, name="mine").sentence
    Job.objects.filter(pk=job.pk).update(state=State.FAILED, error_sentence="x", finished_at=job.created_at)
    assert start("hex", {"epochs": 9}, name="mine") != job, "a training that failed keeps no name"


@pytest.mark.parametrize("name", ["", "   ", "x" * 81], ids=["empty", "spaces", "long"])
def test_a_name_that_is_none(refused, lung, name):
    measured(lung, 4)
    assert refused("hex", name=name).where == "name"


# --- risk


def test_risk_names_its_maps_and_outcome(start, lung, hex_version):
    mapped(lung, hex_version, DAYS, EVENTS)
    job = start("risk", {"penalizer": 0.5}, version=hex_version.pk, endpoint="OS")
    assert job.kind == "predictions.fit_risk" and job.params["config"]["penalizer"] == 0.5
    assert {k: job.params[k] for k in ("cohort", "version", "endpoint", "name")} == {
        "cohort": lung.pk, "version": hex_version.pk, "endpoint": "OS", "name": "new",
    }  # fmt: skip


def test_what_stands_in_the_way_of_a_risk(refused, lung, hex_version, people):
    about = {"version": hex_version.pk, "endpoint": "OS"}
    error = refused("risk", **about)
    # Two patients of lung have a map and an outcome by hand.
    assert error.code == "TOO_FEW_EVENTS" and "among 2 patients (left out: 4 without a virtual map); training takes 5." in error.sentence
    assert refused("risk", version=hex_version.pk, endpoint="PFI").sentence == "The cohort lung has no endpoint PFI."
    assert refused("risk", version=hex_version.pk).code == "ENDPOINT_UNKNOWN"
    assert refused("risk", endpoint="OS").code == refused("risk", endpoint="OS", version=10**9).code == "VERSION_UNKNOWN"
    assert refused("risk", endpoint="OS", version=people.versions["niche"].pk).where == "version"
    other = version_of("hex", "no maps", metrics=hex_version.metrics)
    assert refused("risk", version=other.pk, endpoint="OS").code == "NO_MAP"
    other.cohorts.set([people.breast.cohort])
    assert refused("risk", version=other.pk, endpoint="OS").code == "VERSION_UNKNOWN", "a version of strangers"
    assert refused("risk", version=hex_version.pk, endpoint="OS", encoder=1).where == "encoder"


def test_patients_whose_maps_are_in_sample_do_not_count(refused, lung, hex_version):
    mapped(lung, hex_version, DAYS, EVENTS, in_sample=True)
    assert "6 whose map is in-sample" in refused("risk", version=hex_version.pk, endpoint="OS").sentence


def test_events_at_too_few_times_and_a_horizon_beyond_the_follow_up(refused, lung, hex_version):
    mapped(lung, hex_version, [365.0] * 5 + [730, 730, 1095], [1] * 8, endpoint="DSS")
    about = {"version": hex_version.pk, "endpoint": "DSS"}
    error = refused("risk", **about)
    assert error.code == "TOO_FEW_EVENT_TIMES" and error.sentence == "The 8 events happened at 3 distinct times; training takes 4."
    mapped(lung, hex_version, [50.0], [1], endpoint="DSS")
    error = refused("risk", {"horizon_days": 2000}, **about)
    assert (
        dict(error.fields)["horizon_days"] == "horizon_days is 2000; nobody was followed longer than 1095 days, so it takes at most that."
    )


def test_a_version_that_predicts_too_few_markers(refused, lung, hex_version):
    for name in ("CD20", "HIF1A", "CD8"):  # the Pan-Cytokeratin of the small model stays
        hex_version.metrics["card"][name]["locked"] = True
    hex_version.save()
    mapped(lung, hex_version, DAYS, EVENTS)
    assert refused("risk", version=hex_version.pk, endpoint="OS").code == "MARKERS_LOCKED"


def test_markers_of_a_risk_are_some_of_those_that_may_be_used(refused, start, lung, hex_version):
    mapped(lung, hex_version, DAYS, EVENTS)
    about = {"version": hex_version.pk, "endpoint": "OS"}
    error = refused("risk", {"markers": ["CD8", "CD68"]}, **about)
    assert "markers holds CD68" in error.sentence and start("risk", {"markers": ["CD8", "CD20"]}, **about)


def test_a_risk_is_fitted_on_one_cohort(refused, lung, people, hex_version):
    Membership.objects.create(user=people.contributor, cohort=people.breast.cohort, role="contributor")
    error = refused("risk", cohorts=[lung, people.breast.cohort], version=hex_version.pk, endpoint="OS")
    assert (error.code, error.where) == ("BAD_REQUEST", "cohorts")
    with pytest.raises(TissueboardError, match="No cohort is named"):
        plan_training(people.contributor, "hex", cohorts=[], name="x", values={})


# --- MICA


def test_mica_takes_the_features_of_its_protein_model_or_of_an_encoder(mica, start, refused, lung, hex_version):
    encoder = version_of("encoder", "some encoder")
    mapped(lung, hex_version, DAYS, EVENTS, endpoint="PFI")
    about, values = {"version": hex_version.pk, "endpoint": "PFI"}, {"folds": 3}
    assert "encoder" not in start("mica", values, **about).params
    error = refused("mica", values, encoder=encoder.pk, name="b", **about)
    assert (error.code, error.where) == ("FEATURES_MISSING", "encoder")
    assert error.sentence == "6 patients with a map and PFI have no features of encoder some encoder on the same slide."
    mapped(lung, hex_version, DAYS, EVENTS, endpoint="DSS", bags=(encoder,))
    about["endpoint"] = "DSS"
    params = start("mica", values, encoder=encoder.pk, name="b", **about).params
    assert params["encoder"] == encoder.pk and params["config"]["folds"] == 3
    # Without its own features the protein model alone has no H&E bag; virtual proteins alone need none.
    assert refused("mica", values, name="c", **about).code == "FEATURES_MISSING"
    assert start("mica", {**values, "modality": "codex"}, name="c", **about)


def test_mica_needs_as_many_event_times_as_intervals_and_as_many_patients_as_folds(mica, refused, lung, hex_version):
    mapped(lung, hex_version, DAYS, EVENTS, endpoint="PFI")
    about = {"version": hex_version.pk, "endpoint": "PFI"}
    assert "training takes 6." in refused("mica", {"bins": 6}, **about).sentence
    error = refused("mica", {"folds": 7}, **about)
    assert error.code == "TOO_FEW_PATIENTS" and "6 patients can be fitted on; 7 folds take at least as many" in error.sentence


def test_an_encoder_of_maps_whose_weights_are_not_here_is_refused(mica, refused, lung, hex_version):
    mapped(lung, hex_version, DAYS, EVENTS)
    error = refused("mica", {"folds": 3, "codex_encoder": "dinov2-s14-reg"}, version=hex_version.pk, endpoint="OS")
    assert error.where == "config.codex_encoder" and "dinov2-s14-reg" in error.sentence


# --- scales of niches


def test_niches_need_maps_of_their_version(start, refused, lung, people, hex_version):
    assert refused("niche", version=hex_version.pk).code == "NO_MAP"
    mapped(lung, hex_version, DAYS[:1], EVENTS[:1])
    job = start("niche", {"weights": {"morphology": 0}}, version=hex_version.pk)
    assert job.kind == "retrieval.fit_niches" and job.params["config"]["weights"] == {"protein_mean": 1, "protein_sd": 1, "morphology": 0}
    error = refused("niche", {"weights": {"morphology": 200}}, name="b", version=hex_version.pk)
    assert error.where == "config.weights.morphology" and "is 200; it takes a number from 0 to 100." in error.sentence


# --- what a cohort's page tells


def test_offers_count_what_the_cohort_has_and_say_what_is_missing(people, lung, hex_version):
    measured(lung, 4)
    mapped(lung, hex_version, DAYS, EVENTS)
    found = {offer.training.name: offer for offer in offers(people.contributor, lung)}
    assert found["hex"].ground.words == "4 patients with measured proteins on a ready slide, 3 markers" and not found["hex"].ground.refusal
    assert found["risk"].default.version == hex_version and found["risk"].default.endpoint == "OS"
    assert found["risk"].ground.words.startswith("8 patients with a map of hex small hex and OS, 6 events")
    empty = Cohort.objects.create(name="empty")
    Membership.objects.create(user=people.contributor, cohort=empty, role="contributor")
    found = {offer.training.name: offer.ground for offer in offers(people.contributor, empty)}
    assert found["hex"].refusal.code == "TOO_FEW_PATIENTS" and found["risk"].refusal.code == "ENDPOINT_UNKNOWN"
    with pytest.raises(RoleMissing):
        offers(people.viewer, lung)


def test_the_default_is_the_version_in_use_among_those_with_maps(people, lung, hex_version):
    newer = version_of("hex", "newer")
    one = TRAININGS["risk"]
    assert default_choice(people.contributor, one, [lung]).version == hex_version
    mapped(lung, newer, DAYS, EVENTS)
    ModelVersion.objects.filter(pk=hex_version.pk).update(is_current=False)
    assert default_choice(people.contributor, one, [lung]).version == newer


def test_what_was_trained_here_is_listed_also_where_it_stands_on_no_cohort(people, lung, start):
    measured(lung, 4)
    job = start("hex", name="simulated")
    assert open_trainings(people.viewer, lung) == [job] and open_trainings(people.outsider, lung) == []
    made = version_of("hex", "simulated", provenance={"facts": {"job": job.pk}})
    version_of("hex", "elsewhere", provenance={"facts": {"job": job.pk + 1}})
    assert trained_here(people.viewer, lung) == [made, people.versions["lung"]]
    Job.objects.filter(pk=job.pk).update(state=State.SUCCEEDED, finished_at=job.created_at)
    assert open_trainings(people.viewer, lung) == []


# --- the words of a schema


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("dropout", "a number of at least 0 and below 1"),
        ("seed", "a whole number of at least 0"),
        ("markers", "a list of at least 1"),
        ("trained_layers", "a whole number of at least 0, or nothing"),
        ("encoder", "a text"),
    ],
)
def test_what_a_setting_takes_in_words(setting, words):
    schema = config_class(training_named("hex")).model_json_schema()
    assert allowed(property_at(schema, setting), schema) == words


# --- a protein model measured here, or tuned


def test_a_protein_model_is_measured_on_what_the_cohort_has(refused, start, lung, people, hex_version):
    assert refused("measure").code == "VERSION_UNKNOWN"
    hex_version.panel = [*MARKERS]
    hex_version.save()
    assert refused("measure", model=hex_version.pk).code == "TOO_FEW_PATIENTS"
    measured(lung, 3)
    job = start("measure", {"draws": 200}, model=hex_version.pk)
    assert job.kind == "predictions.evaluate_hex" and job.params["version"] == hex_version.pk and job.params["config"]["draws"] == 200
    other = version_of("hex", "other panel", panel=["nothing here"])
    assert refused("measure", name="b", model=other.pk).code == "PANELS_DIFFER"


def test_fine_tuning_names_its_start_and_takes_the_same_encoder(refused, start, lung, people):
    measured(lung, 6)
    older = version_of("hex", "older", config={"encoder": "compact-resnet-48"})
    assert start("hex", start=older.pk).params["start"] == older.pk
    elsewhere = version_of("hex", "on another encoder", config={"encoder": "he-descriptors"})
    error = refused("hex", name="b", start=elsewhere.pk)
    assert "encoder" in dict(error.fields) and "he-descriptors" in dict(error.fields)["encoder"]
