"""Named people for the tests of pages, and reading a page as a person does."""

import re
from html import unescape

import pytest
from people import people  # noqa: F401


@pytest.fixture
def words():
    """Call it with a response: the text of the page without tags, spaces folded."""

    def read(response) -> str:
        return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", response.content.decode())))

    return read
