"""A slide's quality in a few words for lists and pages: never a figure without its meaning."""

from __future__ import annotations

from dataclasses import dataclass

from ml.slides.findings import FindingCode
from ml.slides.quality_limits import MEANING, SlideQuality, quality_findings

from .models import Slide

SHORT = {
    FindingCode.PEN_MARKS: "pen marks",
    FindingCode.OUT_OF_FOCUS: "out of focus",
    FindingCode.STAIN_WEAK: "weak stain",
    FindingCode.STAIN_STRONG: "strong stain",
    FindingCode.STAIN_UNBALANCED: "stain out of balance",
    FindingCode.GLASS_DARK: "dark glass",
    FindingCode.CLIPPED: "too dark to read",
}


@dataclass(frozen=True)
class QualityWord:
    """text: a few words. tone: ok, warn or muted. meaning: what it says, in full sentences."""

    text: str
    tone: str
    meaning: str


@dataclass(frozen=True)
class QualityFigure:
    """One measured figure. name: in words. value: None where it could not be judged. share: shown as per cent. meaning: with its limits."""

    name: str
    value: float | int | None
    share: bool
    meaning: str


def quality_of(slide: Slide) -> SlideQuality | None:
    """What was measured when the slide came in, or None for one that came in before."""
    kept = slide.facts.get("quality")
    return None if kept is None else SlideQuality(**kept)


def quality_words(slide: Slide) -> list[QualityWord]:
    """The warnings of a slide in short words; one word where there is none; [] while the slide is not ready."""
    if slide.state != Slide.State.READY:
        return []
    quality = quality_of(slide)
    if quality is None:
        return [QualityWord("not judged", "muted", "The slide came in before quality was judged.")]
    if not quality.tiles:
        return [QualityWord("too little tissue", "muted", "There is no tile with enough tissue to judge focus and stain on.")]
    told = [QualityWord(SHORT[FindingCode(f.code)], "warn", f"{f.sentence} {f.hint}") for f in quality_findings(quality, slide.name)]
    return told or [QualityWord("no warning", "ok", f"Focus, stain, glass and ink of {quality.tiles} tiles are within their usual limits.")]


def quality_figures(slide: Slide) -> list[QualityFigure]:
    """Every measured figure of a slide with its meaning; [] where none was measured."""
    quality = quality_of(slide)
    if quality is None:
        return []
    return [
        QualityFigure(NAMES[name], getattr(quality, name), name.endswith("_share"), meaning)
        for name, meaning in MEANING.items()
        if getattr(quality, name) is not None
    ]


NAMES = {
    "focus": "Focus",
    "blurred_share": "Out of focus",
    "haematoxylin": "Haematoxylin",
    "eosin": "Eosin",
    "h_to_e": "Haematoxylin to eosin",
    "glass": "Glass",
    "clipped_share": "Too dark",
    "pen_share": "Ink",
    "tiles": "Tiles looked at",
}
