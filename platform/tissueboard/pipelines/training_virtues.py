"""What cohorts have to train a VirTues on, or to take one into use on: counted before anything is queued."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tissueboard.assays.models import MultiplexImage
from tissueboard.cohorts.models import Cohort
from tissueboard.model_registry.models import ModelVersion
from tissueboard.predictions.virtues_bank import RANDOM, WHERE_FROM, bank_proteins
from tissueboard.predictions.virtues_fit import LEAST_PATIENTS
from tissueboard.predictions.virtues_images import accessions_of, dataset_of, ready_images, why_not_seen
from tissueboard.predictions.virtues_maps import KINDS, maps_of, proteins_of_map
from tissueboard.predictions.virtues_weights import CROPS, embed_config

from .errors import ConfigInvalid, TrainingRefused
from .training_checks import Chosen, Ground, counted
from .training_kinds import Training

SOME = 8


def _pretrain(cohorts: Sequence[Cohort], chosen: Chosen) -> Ground:
    """Ready images with their proteins, and which of these the bank lacks."""
    images = ready_images(list(cohorts))
    proteins = {one for channels in accessions_of(images).values() for one in channels if one}
    patients = len({image.sample.patient.code for image in images})
    words = (
        f"{counted(patients, 'patient')} with {counted(len(images), 'ready multiplex image')}, {counted(len(proteins), 'known protein')}"
    )
    refusal = None
    bank = bank_proteins(chosen.start or chosen.bank)
    if patients < LEAST_PATIENTS:
        said = f"{counted(patients, 'patient')} with a ready multiplex image; training takes {LEAST_PATIENTS}."
        refusal = TrainingRefused("TOO_FEW_PATIENTS", said, "Import more images.", where="cohorts")
    elif not proteins:
        said = "No channel of these images has a known protein."
        refusal = TrainingRefused("NO_KNOWN_MARKER", said, "Give the accessions in the cohort's table of markers.", where="cohorts")
    elif bank is None and all(cohort.simulated for cohort in cohorts):
        words += f"; marker embeddings are {RANDOM}"
    elif bank is None:
        said = f"There are no protein embeddings of markers on this server; these images need {len(proteins)}: {_some(proteins)}."
        refusal = TrainingRefused("BANK_MISSING", said, WHERE_FROM, where="bank")
    elif not proteins & bank:
        said = f"None of the {len(proteins)} proteins of these images has an embedding there: {_some(proteins)}."
        refusal = TrainingRefused("NO_KNOWN_MARKER", said, WHERE_FROM, where="bank")
    elif proteins - bank:
        words += f"; without an embedding, and left out: {_some(proteins - bank)}"
    return Ground(words, patients, refusal)


def _adopt(cohorts: Sequence[Cohort], chosen: Chosen) -> Ground:
    """Images that the version can see, by data set."""
    if chosen.model is None:
        hint = "Register released weights with manage.py add_virtues, or train one."
        return Ground("No VirTues yet", 0, TrainingRefused("VERSION_UNKNOWN", "No VirTues is named.", hint, where="model"))
    if chosen.model.config.get("maps"):
        said = f"{chosen.model} was trained on virtual maps and has no use for images."
        return Ground("No VirTues of images yet", 0, TrainingRefused("VERSION_UNKNOWN", said, "Choose another version.", where="model"))
    images, panel = ready_images(list(cohorts)), set(chosen.model.panel)
    proteins = accessions_of(images)
    seen = [image for image in images if panel & set(proteins[image.pk]) and _why_not(image, chosen.model) is None]
    sets = {dataset_of(image) for image in seen}
    words = f"{len(seen)} of {counted(len(images), 'ready multiplex image')} that it can see, in {counted(len(sets), 'data set')}"
    patients = len({image.sample.patient.code for image in seen})
    if seen:
        crops = {name: value for name, value in chosen.model.config.get("embed", {}).items() if name in CROPS}
        return Ground(
            f"{words}; niches are crops of {embed_config(chosen.model).crop_px} px, as the version sees them", patients, decided=crops
        )
    told = next((why[1] for image in images if (why := _why_not(image, chosen.model)) is not None), "")
    said = f"{chosen.model} can see none of {counted(len(images), 'ready multiplex image')}. {told}".strip()
    return Ground(words, 0, TrainingRefused("NO_IMAGES", said, "Import images, or name the proteins of their channels.", where="cohorts"))


def _why_not(image: MultiplexImage, version: ModelVersion) -> tuple[str, str, str] | None:
    return why_not_seen(image, float(version.pitch_um or 1), embed_config(version).crop_px)


def _maps(cohorts: Sequence[Cohort], chosen: Chosen) -> Ground:
    """Maps of a protein model, and how many of its markers are unlocked and have a known protein."""
    if chosen.version is None:
        said = TrainingRefused("VERSION_UNKNOWN", "No protein model is named.", "Train HEX first, and make its maps.", where="version")
        return Ground("No protein model yet", 0, said)
    maps = {which: maps_of(chosen.version, list(cohorts), which) for which in KINDS}
    patients = len({one.patient.code for one in maps["tiles"]})
    proteins = set()
    for one in maps["tiles"][:1]:
        proteins = {name for name in proteins_of_map(one, tuple(chosen.version.panel))[0] if name}
    words = f"{counted(patients, 'patient')} with a virtual map of {chosen.version}, {counted(len(maps['dense']), 'dense map')}, "
    words += counted(len(proteins), "unlocked marker with a known protein") if len(proteins) == 1 else f"{len(proteins)} unlocked markers"
    bank, refusal = bank_proteins(chosen.bank), None
    if patients < LEAST_PATIENTS:
        said = f"{counted(patients, 'patient')} with a virtual map of {chosen.version}; training takes {LEAST_PATIENTS}."
        refusal = TrainingRefused("TOO_FEW_PATIENTS", said, "Make the maps of more patients.", where="version")
    elif not proteins:
        said = f"No marker of {chosen.version} is unlocked and has a known protein."
        refusal = TrainingRefused("MARKERS_LOCKED", said, "Measure the protein model on more patients.", where="version")
    elif bank is None and not all(cohort.simulated for cohort in cohorts):
        said = f"There are no protein embeddings of markers on this server; these maps need {len(proteins)}: {_some(proteins)}."
        refusal = TrainingRefused("BANK_MISSING", said, WHERE_FROM, where="bank")
    elif bank is not None and not proteins & bank:
        said = f"None of the {len(proteins)} proteins of these maps has an embedding there: {_some(proteins)}."
        refusal = TrainingRefused("NO_KNOWN_MARKER", said, WHERE_FROM, where="bank")
    return Ground(words, patients, refusal, decided={"pitch_um": chosen.version.pitch_um or 56.0})


GROUNDS = {"virtues": _pretrain, "virtues_adopt": _adopt, "virtues_maps": _maps}


def check(training: Training, cohorts: Sequence[Cohort], chosen: Chosen, config: Any) -> None:
    """Refuses settings that do not fit the images. ConfigInvalid."""
    if training.name == "virtues":
        _check_pretraining(cohorts, chosen, config)
    elif training.name == "virtues_maps":
        _check_held_out(config, len({one.patient.code for one in maps_of(chosen.version, list(cohorts), config.maps)}))
    elif training.name == "virtues_adopt" and chosen.model is not None:
        patch = chosen.model.config["network"]["patch_size"]
        if config.crop_px % patch:
            raise ConfigInvalid([("crop_px", f"crop_px is {config.crop_px}; it takes a multiple of the patch of {patch} px.")])


def _check_pretraining(cohorts: Sequence[Cohort], chosen: Chosen, config: Any) -> None:
    wrong = []
    images = ready_images(list(cohorts))
    patients = {image.sample.patient.code for image in images}
    sets = sorted({dataset_of(image) for image in images})
    if config.held_out and round(1 / config.held_out) > len(patients):
        wrong.append(_too_few_held_out(config, len(patients)))
    if config.leave_out and config.leave_out not in sets:
        wrong.append(("leave_out", f"leave_out is “{config.leave_out[:60]}”; the data sets are {', '.join(sets)}."))
    if chosen.start is not None and chosen.start.config.get("network") != config.network.model_dump(mode="json"):
        theirs = chosen.start.config.get("network", {})
        other = [name for name, value in config.network.model_dump(mode="json").items() if theirs.get(name) != value]
        wrong += [(f"network.{name}", f"network.{name} differs; {chosen.start}, to go on from, has {theirs.get(name)}.") for name in other]
    if chosen.start is not None and abs(config.pitch_um / float(chosen.start.pitch_um or 1) - 1) > 0.1:
        wrong.append(
            ("pitch_um", f"pitch_um is {config.pitch_um:g}; {chosen.start}, to go on from, was made for {chosen.start.pitch_um:g}.")
        )
    if not any(why_not_seen(image, config.pitch_um, config.crop) is None for image in images):
        why = why_not_seen(images[0], config.pitch_um, config.crop)
        wrong.append(
            ("crop", f"crop is {config.crop} and pitch_um {config.pitch_um:g}; no image can be read so. {why[1] if why else ''}".strip())
        )
    if wrong:
        raise ConfigInvalid(wrong)


def _check_held_out(config: Any, patients: int) -> None:
    if config.held_out and round(1 / config.held_out) > max(patients, 1):
        raise ConfigInvalid([_too_few_held_out(config, max(patients, 1))])


def _too_few_held_out(config: Any, patients: int) -> tuple[str, str]:
    return "held_out", f"held_out is {config.held_out:g}; {counted(patients, 'patient')} allow {1 / patients:.2g} or more, or 0."


def _some(proteins: set[str]) -> str:
    names = sorted(proteins)
    return ", ".join(names[:SOME]) + (f" and {len(names) - SOME} more" if len(names) > SOME else "")
