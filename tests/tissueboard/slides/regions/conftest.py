"""The named people of both hand-made cohorts, for regions of their slides."""

from people import people  # noqa: F401
