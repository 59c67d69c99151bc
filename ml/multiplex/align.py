"""Placing a multiplex image on a slide: an affine map from pixels of the image to px0 of the slide, from pairs of landmarks.

Pixels are counted from the outer corner of the first one, so that a scale keeps corners on corners. matrix: (2, 3) float64,
[x0, y0] = matrix[:, :2] @ [x, y] + matrix[:, 2].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.slides.findings import Finding, FindingCode, Severity, SlideError

MIN_LANDMARKS = 3
COLLINEAR = 0.02  # smallest over largest spread of the points: below it they lie on a line
SCALE_OFF = 0.10
LOOSE_UM = 20.0  # residual beyond which a cell is not where it is drawn


@dataclass(frozen=True)
class Fitted:
    """matrix: (2, 3). residual_um: root mean square distance over the pairs; residuals_um: of each; 0 for exactly three."""

    matrix: NDArray[np.float64]
    residual_um: float
    residuals_um: tuple[float, ...]


def fit_affine(image_xy: Sequence[Sequence[float]], slide_xy: Sequence[Sequence[float]], slide_mpp: float) -> Fitted:
    """Least squares over n >= 3 pairs: image_xy (n, 2) px of the image, slide_xy (n, 2) px0. slide_mpp: um per px0.

    Errors: SlideError LANDMARKS_TOO_FEW, LANDMARKS_COLLINEAR, ALIGNMENT_INVALID.
    """
    one, other = _points(image_xy, "image"), _points(slide_xy, "slide")
    if len(one) != len(other) or len(one) < MIN_LANDMARKS:
        sentence = f"{len(one)} points on the image and {len(other)} on the slide are given; at least {MIN_LANDMARKS} pairs are needed."
        raise SlideError(FindingCode.LANDMARKS_TOO_FEW, sentence, "Mark the same places on both, well spread over the tissue.")
    for name, points in (("image", one), ("slide", other)):
        spread = np.linalg.svd(points - points.mean(0), compute_uv=False)
        if spread[0] == 0 or spread[1] / spread[0] < COLLINEAR:
            sentence = f"The points on the {name} lie on one line: they do not say how it is turned and stretched."
            raise SlideError(FindingCode.LANDMARKS_COLLINEAR, sentence, "Add a pair away from the line.")
    centre = one.mean(0)
    design = np.column_stack([one - centre, np.ones(len(one))])
    solved = np.linalg.lstsq(design, other, rcond=None)[0].T
    matrix = np.column_stack([solved[:, :2], solved[:, 2] - solved[:, :2] @ centre])
    off = np.linalg.norm(apply(matrix, one) - other, axis=1) * slide_mpp
    return Fitted(matrix, float(np.sqrt(np.mean(off**2))), tuple(map(float, off)))


def checked_matrix(values: Any) -> NDArray[np.float64]:
    """A 2 x 3 matrix (or 3 x 3 with the last row 0 0 1) of finite numbers that can be inverted. SlideError ALIGNMENT_INVALID."""
    hint = "Give two rows of three numbers, [[a, b, tx], [c, d, ty]], from pixels of the image to pixels of the slide."
    try:
        matrix = np.asarray(values, np.float64)
    except (TypeError, ValueError) as reason:
        raise SlideError(FindingCode.ALIGNMENT_INVALID, "The matrix does not consist of numbers.", hint) from reason
    if matrix.shape == (3, 3) and np.array_equal(matrix[2], [0, 0, 1]):
        matrix = matrix[:2]
    if matrix.shape != (2, 3) or not np.isfinite(matrix).all() or np.abs(matrix).max() > 1e9:
        raise SlideError(FindingCode.ALIGNMENT_INVALID, "The matrix is not one of 2 x 3 finite numbers.", hint)
    scales = np.linalg.svd(matrix[:, :2], compute_uv=False)
    if scales[1] < 1e-6 or scales[0] / scales[1] > 100:
        raise SlideError(FindingCode.ALIGNMENT_INVALID, "The matrix presses the image into a line.", hint)
    return matrix


def apply(matrix: NDArray[np.float64], xy: Any) -> NDArray[np.float64]:
    """(n, 2) points of the image -> (n, 2) px0."""
    placed: NDArray[np.float64] = np.asarray(xy, np.float64) @ matrix[:, :2].T + matrix[:, 2]
    return placed


def inverse(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """(2, 3) from px0 to pixels of the image."""
    back = np.linalg.inv(matrix[:, :2])
    return np.column_stack([back, -back @ matrix[:, 2]])


def facts_of(matrix: NDArray[np.float64], image_mpp: float, slide_mpp: float, image_size: tuple[int, int]) -> dict[str, Any]:
    """scale: um on the slide per um of the image (1 where both um per px are right), largest and smallest direction; rotation (degrees,
    clockwise); mirrored; box: px0 x, y, width, height that the image covers."""
    linear = matrix[:, :2]
    ratio = slide_mpp / image_mpp
    large, small = np.linalg.svd(linear, compute_uv=False) * ratio
    mirrored = bool(np.linalg.det(linear) < 0)
    turned = linear @ np.diag([-1.0, 1.0]) if mirrored else linear
    angle = math.degrees(math.atan2(turned[1, 0] - turned[0, 1], turned[0, 0] + turned[1, 1]))
    width, height = image_size
    corners = apply(matrix, [[0, 0], [width, 0], [width, height], [0, height]])
    low, high = corners.min(0), corners.max(0)
    return {
        "scale": float(math.sqrt(large * small)), "scale_max": float(large), "scale_min": float(small), "rotation": angle,
        "mirrored": mirrored, "box": [float(v) for v in (*low, *(high - low))],
    }  # fmt: skip


def alignment_findings(facts: dict[str, Any], residual_um: float | None, slide_size: tuple[int, int]) -> list[Finding]:
    """What a person should look at; an image that lies wholly beside the slide is an error."""
    found = []
    x, y, width, height = facts["box"]
    inside = max(0.0, min(x + width, slide_size[0]) - max(x, 0)) * max(0.0, min(y + height, slide_size[1]) - max(y, 0))
    share = inside / max(width * height, 1e-9)
    if share == 0:
        sentence = "Placed like this, the image lies wholly beside the slide."
        found.append(_finding(FindingCode.ALIGNMENT_OUTSIDE, Severity.ERROR, sentence, "Check that the pixels are those of level 0."))
    elif share < 0.5:
        sentence = f"Only {share:.0%} of the image lies on the slide."
        found.append(_finding(FindingCode.ALIGNMENT_OUTSIDE, Severity.WARNING, sentence, "Check that the pixels are those of level 0."))
    if facts["mirrored"]:
        sentence = "The image is mirrored against the slide."
        hint = "Right only if one of them was scanned through the glass; otherwise two landmarks are exchanged."
        found.append(_finding(FindingCode.ALIGNMENT_MIRRORED, Severity.WARNING, sentence, hint))
    if max(facts["scale_max"] - 1, 1 - facts["scale_min"]) > SCALE_OFF:
        sentence = f"A micrometre of the image is {facts['scale_min']:.2f} to {facts['scale_max']:.2f} micrometres on the slide."
        hint = "Sections stretch by a few per cent; more speaks for wrong landmarks or a wrong um per px of one of them."
        found.append(_finding(FindingCode.ALIGNMENT_SCALE, Severity.WARNING, sentence, hint))
    if residual_um is not None and residual_um > LOOSE_UM:
        sentence = f"The landmarks miss each other by {residual_um:.0f} um (root mean square), more than a cell."
        found.append(_finding(FindingCode.ALIGNMENT_LOOSE, Severity.WARNING, sentence, "Look at the pair that is farthest off."))
    return found


def _points(values: Any, name: str) -> NDArray[np.float64]:
    hint = "Give them as pairs of numbers, [[x, y], ...]."
    try:
        points = np.asarray(values, np.float64)
    except (TypeError, ValueError) as reason:
        raise SlideError(FindingCode.ALIGNMENT_INVALID, f"The points on the {name} are no numbers.", hint) from reason
    if points.size == 0:
        return np.zeros((0, 2))
    if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all() or np.abs(points).max() > 1e9:
        raise SlideError(FindingCode.ALIGNMENT_INVALID, f"The points on the {name} are no pairs of finite numbers.", hint)
    return points


def _finding(code: FindingCode, severity: Severity, sentence: str, hint: str) -> Finding:
    return Finding(code, severity, "", "", sentence, hint)
