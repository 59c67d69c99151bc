"""A slide's quality on pages."""

from __future__ import annotations

from typing import Any

from django import template

from tissueboard.slides.quality import quality_figures, quality_words

register = template.Library()


@register.inclusion_tag("parts/quality_words.html")
def quality_badges(slide: Any) -> dict[str, Any]:
    """The words of a slide's quality, each with its meaning."""
    return {"words": quality_words(slide)}


@register.inclusion_tag("parts/quality_line.html")
def quality_line(slide: Any) -> dict[str, Any]:
    """One line with the words, and all figures with their meanings below it, folded away."""
    return {"words": quality_words(slide), "figures": quality_figures(slide)}
