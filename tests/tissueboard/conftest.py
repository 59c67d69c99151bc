"""Named people for all tests of the platform."""

from people import people  # noqa: F401
