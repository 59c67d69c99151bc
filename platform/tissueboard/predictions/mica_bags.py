"""What MICA reads of a slide, from what is in the store: tiles of a feature bag, and a token per marker of the virtual map."""

from __future__ import annotations

from functools import partial
from typing import Any

from tissueboard.jobs.errors import JobRefused
from tissueboard.model_registry.models import ModelVersion
from tissueboard.store import store

from .maps import load_map
from .models import Prediction


def encoder_named(version_id: int | None) -> ModelVersion | None:
    """The encoder version of a training's params; None means the features that HEX itself made."""
    return None if version_id is None else ModelVersion.objects.get(pk=version_id, family="encoder")


def feature_bag(source: Prediction, encoder: ModelVersion | None) -> Prediction:
    """The H&E bag of the map's slide. JobRefused NO_FEATURES where that slide has none of this encoder."""
    version = encoder or source.version
    found = Prediction.objects.filter(slide=source.slide, version=version, kind=Prediction.Kind.FEATURE_BAG).first()
    if found is None:
        sentence = f"The slide {source.slide.name} has no features of {version}."
        raise JobRefused("NO_FEATURES", sentence, "Run the features of the cohort with this encoder first.")
    return found


def bag_of(source: Prediction, encoder: ModelVersion | None, codex_encoder: str, modality: str) -> Any:
    """ml.mica.data.MicaBag of a map's slide; its tiles are read when they are needed. Errors: JobRefused, MicaError, EncoderError."""
    from ml.mica.data import MicaBag

    tiles, name, tokens = None, "", None
    if modality != "codex":
        bag = feature_bag(source, encoder)
        tiles, name = partial(_features, bag.key), str(encoder or f"{source.version.name}:fold0")
    if modality != "he":
        tokens = _tokens(source, codex_encoder)
    return MicaBag(
        patient=source.patient.code,
        slide=str(source.slide_id),
        tiles=tiles,
        codex=None if tokens is None else tokens.tokens,
        markers=() if tokens is None else tokens.markers,
        encoder=name,
        codex_encoder="" if tokens is None else tokens.encoder,
    )


def _features(key: str) -> Any:
    from ml.slides.features import read_bag

    return read_bag(store.path(key)).features


def grid_of_bag(source: Prediction, encoder: ModelVersion | None) -> Any:
    """The ml.types.TileGrid of the slide's H&E bag."""
    from ml.slides.features import read_bag

    return read_bag(store.path(feature_bag(source, encoder).key), mpp=source.slide.mpp).grid


def _tokens(source: Prediction, codex_encoder: str) -> Any:
    """ml.mica.codex_bag.CodexBag of a map. DINOv2 needs its weights in the registry; nothing takes their place."""
    from ml.mica.codex_bag import DINOV2, codex_bag
    from tissueboard.model_registry.encoders import WEIGHTS
    from tissueboard.model_registry.services import weights_path

    weights = None
    if codex_encoder == DINOV2:
        version = ModelVersion.objects.filter(family="encoder", config__encoder=DINOV2, is_current=True).first()
        if version is None:
            sentence = f"The encoder {DINOV2} of the marker maps is not in use on this server."
            raise JobRefused("ENCODER_MISSING", sentence, "Bring it into use on the page Encoders, or choose fixed-map-descriptors.")
        weights = weights_path(version) / WEIGHTS
    return codex_bag(load_map(source), codex_encoder, weights=weights)
