"""Feature bags of a slide on pages."""

from __future__ import annotations

from typing import Any

from django import template

from tissueboard.predictions.selectors import bags_of_slide

register = template.Library()


@register.inclusion_tag("parts/features_line.html", takes_context=True)
def features_line(context: Any, slide: Any) -> dict[str, Any]:
    """One line per bag of the slide that the user may see, folded away."""
    return {"slide": slide, "bags": bags_of_slide(context["request"].user, slide)}
