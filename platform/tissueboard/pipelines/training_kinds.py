"""The declared trainings: which families a person may train, with which job, and what she chooses for it beside the settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ml import families
from tissueboard.jobs import registry

from .errors import UnknownTraining


@dataclass(frozen=True)
class Training:
    """One thing to train.

    family, task: in ml.families; the settings are that task's config. kind: the job kind that does it. needs: in plain words.
    several: it takes more than one cohort. chooses: what a person names beside the settings, of "version" (of the family hex, whose maps
    are used), "encoder" (optional), "endpoint", "model" (a version of this family to measure or take into use), "start" (one of this family
    to go on from; optional) and "bank" (a VirTues whose marker embeddings are taken; optional). decided: settings that the data decide.
    usual: settings that most people look at. model_label, start_help: what the form says beside those two.
    """

    name: str
    title: str
    words: str
    needs: str
    family: str
    task: str
    kind: str
    several: bool = False
    chooses: tuple[str, ...] = ()
    decided: tuple[str, ...] = ()
    usual: tuple[str, ...] = ()
    model_label: str = "Protein model to measure"
    start_help: str = "Fine-tuning: proteins that both predict start from its weights, others anew. Use the same encoder."


TRAININGS: dict[str, Training] = {
    one.name: one
    for one in (
        Training(
            "hex",
            "Virtual proteins from H&E (HEX)",
            "Learns to predict measured proteins from H&E tiles, cross-fitted by patient. New maps are then made with it.",
            "At least four patients with measured proteins on a ready H&E slide, all of one panel.",
            *("hex", "fit", "predictions.fit_hex"),
            several=True,
            chooses=("start",),
            decided=("tile_um",),
            usual=("encoder", "epochs", "folds", "loss", "fds", "max_seconds", "markers"),
        ),
        Training(
            "measure",
            "How well a protein model does here (HEX)",
            "Holds a protein model, released or trained elsewhere, against measured proteins of patients whom it never saw. "
            "The result is a version with a card of its own; markers of released weights can be chosen on case pages only after that.",
            "At least two patients with measured proteins whom no fold of the model saw.",
            *("hex", "evaluate", "predictions.evaluate_hex"),
            several=True,
            chooses=("model",),
            usual=("label_scaling", "draws", "alpha"),
        ),
        Training(
            "niche",
            "Reference scales of niches, for similar cases",
            "Learns how niches of virtual proteins vary, so that tissues can be compared. Similar cases need it once per protein model.",
            "Virtual protein maps of one protein model.",
            *("niche", "fit", "retrieval.fit_niches"),
            several=True,
            chooses=("version",),
            usual=("niche_um", "max_medoids"),
        ),
        Training(
            "risk",
            "Risk from protein summaries (ridge Cox)",
            "Fits an outcome of this cohort on the means of a few virtual proteins, declared beforehand; every risk is out-of-fold.",
            "Virtual protein maps of one protein model, and an outcome of the same patients with at least five events.",
            *("cox_summary", "fit", "predictions.fit_risk"),
            chooses=("version", "endpoint"),
            usual=("horizon_days", "penalizer", "folds"),
        ),
        Training(
            "mica",
            "Risk from H&E and virtual proteins (MICA)",
            "Fits an outcome of this cohort on whole slides: H&E tiles and virtual protein maps look at each other by co-attention.",
            "Virtual protein maps and features of the same slides, and an outcome with at least four distinct event times.",
            *("mica", "fit", "predictions.fit_mica"),
            chooses=("version", "encoder", "endpoint"),
            usual=("modality", "codex_encoder", "epochs", "folds", "lr", "pooling", "horizon_days", "compare"),
        ),
        Training(
            "virtues",
            "Multiplex images (VirTues)",
            "Learns to fill in what is masked in multiplex images of any panels, held out by patient. Its niches and cells can then be "
            "compared across panels. Markers are told apart by protein embeddings, of a version or of this server.",
            "At least two patients with a ready multiplex image whose channels have a known protein.",
            *("virtues", "pretrain", "predictions.fit_virtues"),
            several=True,
            chooses=("start", "bank"),
            usual=("epochs", "crop", "batch", "lr", "held_out", "leave_out", "pitch_um", "max_seconds"),
            start_help="Goes on from its weights with its marker embeddings; the network has to be the same.",
        ),
        Training(
            "virtues_adopt",
            "Take a VirTues into use on multiplex images",
            "Measures mean and deviation of every channel over a cohort's images of one technology: without them a version, released or "
            "trained elsewhere, cannot see these images. The weights stay as they are.",
            "Ready multiplex images that the version can see.",
            *("virtues", "embed", "predictions.adopt_virtues"),
            several=True,
            chooses=("model",),
            decided=("crop_px", "cell_stride_px", "cell_pad_px"),
            usual=("retrieval_set", "max_medoids", "min_tissue", "cells"),
            model_label="VirTues to take into use",
        ),
        Training(
            "virtues_maps",
            "Virtual maps at their own pitch (VirTues)",
            "Learns to fill in what is masked in virtual protein maps. A VirTues of images may not see them: a grid of tiles, zoomed "
            "up is no image of tissue. By default a patch is 2 cells of 56 µm (112 µm) and a crop 16 cells (0.9 mm); the recipe for dense "
            "maps of 14 µm has patches of 56 µm and crops of 0.45 mm.",
            "Virtual maps of one protein model of at least two patients, and unlocked markers with a known protein.",
            *("virtues", "pretrain_maps", "predictions.fit_virtues_maps"),
            several=True,
            chooses=("version", "bank"),
            decided=("pitch_um",),
            usual=("maps", "epochs", "crop", "subimage", "batch", "lr", "held_out", "max_seconds"),
        ),
    )
}


def trainings() -> list[Training]:
    """Those that this release can do: the family is there with its task, and an app does the job."""
    kinds = {handler.kind for handler in registry.kinds()}
    return [one for one in TRAININGS.values() if one.kind in kinds and _has_task(one)]


def _has_task(one: Training) -> bool:
    family = families.FAMILIES.get(one.family)
    return family is not None and any(task.name == one.task for task in family.tasks)


def training_named(name: str) -> Training:
    """One training; UnknownTraining (404) names those that there are."""
    known = trainings()
    found = next((one for one in known if one.name == name), None)
    if found is None:
        raise UnknownTraining(name, [one.name for one in known])
    return found


def config_class(training: Training) -> Any:
    """The pydantic model of a training's settings."""
    return families.load(families.family(training.family).task(training.task).config)


def schema_of(training: Training) -> dict[str, Any]:
    """JSON schema of its settings, without those that the data decide."""
    schema = families.config_schema(training.family, training.task)
    return {**schema, "properties": {k: v for k, v in schema["properties"].items() if k not in training.decided}}


@dataclass(frozen=True)
class Preset:
    """A recipe that fills in all settings. values: plain JSON by name, without what the data decide."""

    name: str
    title: str
    values: dict[str, Any]


def presets(training: Training) -> list[Preset]:
    """The defaults first; the published recipe where the family's config knows it (a classmethod `released`)."""
    from pydantic_core import to_jsonable_python

    cls = config_class(training)
    usual = {name: one.get_default(call_default_factory=True) for name, one in cls.model_fields.items() if not one.is_required()}
    found = [Preset("default", "compact: the defaults of this house", _plain(training, to_jsonable_python(usual)))]
    if hasattr(cls, "recipes"):
        found += [Preset(name, title, _plain(training, values)) for name, title, values in cls.recipes()]
    elif hasattr(cls, "released"):
        found.append(Preset("released", "as published", _plain(training, cls.released().model_dump(mode="json"))))
    return found


def _plain(training: Training, values: dict[str, Any]) -> dict[str, Any]:
    # Markers are a choice among what was measured here; a recipe does not know them.
    return {name: value for name, value in values.items() if name not in (*training.decided, "markers")}
