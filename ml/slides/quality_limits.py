"""What a slide's quality figures mean, the limits beyond which they become warnings, and the warnings. Nothing heavy is loaded."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ml.slides.findings import Finding, FindingCode, Severity

TILE_UM = 112.0  # side of the tiles that are looked at
FOCUS_AT_LEAST = 0.11
BLURRED_SHARE = 0.10
PEN_SHARE = 0.002
GLASS_AT_LEAST = 200.0
CLIPPED_SHARE = 0.02
# Optical densities (natural logarithm, 99th percentile on tissue). Macenko's reference slide has 1.97 and 1.03.
HAEMATOXYLIN, EOSIN = (0.7, 4.0), (0.4, 3.5)
H_TO_E = (0.4, 6.0)

MEANING = {
    "focus": f"Median over the tiles on tissue; a sharp scan has 0.18 or more, below {FOCUS_AT_LEAST} a tile counts as out of focus.",
    "blurred_share": "Share of the looked-at tiles that are out of focus.",
    "haematoxylin": f"Optical density of haematoxylin that 1% of the tissue exceeds; usual is {HAEMATOXYLIN[0]} to {HAEMATOXYLIN[1]}.",
    "eosin": f"Optical density of eosin that 1% of the tissue exceeds; usual is {EOSIN[0]} to {EOSIN[1]}.",
    "h_to_e": f"Haematoxylin density divided by eosin density; usual is {H_TO_E[0]} to {H_TO_E[1]}.",
    "glass": f"Brightness of the empty glass, 0 to 255, its darkest channel; usual is {GLASS_AT_LEAST:.0f} or more.",
    "clipped_share": f"Share of tissue pixels too dark for the scanner's scale; usual is below {CLIPPED_SHARE:.0%}.",
    "pen_share": "Share of the slide that is covered by marker ink; it is left out of the tissue.",
    "tiles": f"Number of {TILE_UM:.0f} um tiles on tissue that were looked at, spread evenly.",
}


@dataclass(frozen=True)
class SlideQuality:
    """What `MEANING` says, by the same names; None where it could not be judged (no tile on tissue; stains of a slide that is not H&E)."""

    tiles: int
    focus: float | None
    blurred_share: float | None
    haematoxylin: float | None
    eosin: float | None
    h_to_e: float | None
    glass: float | None
    clipped_share: float | None
    pen_share: float

    def to_dict(self) -> dict[str, Any]:
        """Rounded, as plain JSON types."""
        return {name: round(value, 4) if isinstance(value, float) else value for name, value in asdict(self).items()}


def quality_findings(quality: SlideQuality, file: str) -> list[Finding]:
    """Warnings about what lies outside the stated limits; none of them blocks a slide."""
    found: list[Finding] = []

    def say(code: FindingCode, sentence: str, hint: str) -> None:
        found.append(Finding(code, Severity.WARNING, file, "", sentence, hint))

    if quality.pen_share >= PEN_SHARE:
        sentence = f"Marker ink covers {quality.pen_share:.1%} of the slide; it is left out of the tissue."
        say(FindingCode.PEN_MARKS, sentence, "Look whether tissue lies under the ink; if it matters, clean the slide and scan it again.")
    if quality.blurred_share is not None and quality.blurred_share > BLURRED_SHARE:
        sentence = f"{quality.blurred_share:.0%} of {quality.tiles} looked-at tiles are out of focus (focus below {FOCUS_AT_LEAST})."
        say(FindingCode.OUT_OF_FOCUS, sentence, "Scan the slide again with more focus points; models read blurred tissue wrongly.")
    if quality.haematoxylin is not None and quality.eosin is not None and quality.h_to_e is not None:
        for name, value, (low, high) in (("haematoxylin", quality.haematoxylin, HAEMATOXYLIN), ("eosin", quality.eosin, EOSIN)):
            if not low <= value <= high:
                code = FindingCode.STAIN_WEAK if value < low else FindingCode.STAIN_STRONG
                sentence = f"The {name} is {'weak' if value < low else 'strong'}: optical density {value:.2f}, usual is {low} to {high}."
                say(code, sentence, "Compare it with slides of the same batch; models may read it as another tissue.")
        if not H_TO_E[0] <= quality.h_to_e <= H_TO_E[1]:
            sentence = f"Haematoxylin and eosin are out of balance: {quality.h_to_e:.2f} to 1, usual is {H_TO_E[0]} to {H_TO_E[1]}."
            say(FindingCode.STAIN_UNBALANCED, sentence, "Check that the slide is stained with H&E, and compare it with its batch.")
    if quality.glass is not None and quality.glass < GLASS_AT_LEAST:
        sentence = f"The brightest part of the slide is dark: {quality.glass:.0f} of 255, usual is {GLASS_AT_LEAST:.0f} or more."
        say(FindingCode.GLASS_DARK, sentence, "Nothing to do if tissue fills the scan; else check the scanner's white balance.")
    if quality.clipped_share is not None and quality.clipped_share > CLIPPED_SHARE:
        sentence = f"{quality.clipped_share:.1%} of the tissue is at the dark end of the scanner's scale, where colour is lost."
        say(FindingCode.CLIPPED, sentence, "Scan it again with another exposure if the slide matters.")
    return found
