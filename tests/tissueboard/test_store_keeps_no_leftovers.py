"""The store: keys stay inside it, a save replaces as a whole, and what killed processes left is swept when it is old."""

import os
import time

import pytest

from tissueboard.store import checksum, store


@pytest.fixture(autouse=True)
def folder(settings, tmp_path):
    settings.STORE_ROOT = tmp_path / "store"
    return settings.STORE_ROOT


def test_a_key_cannot_leave_the_folder():
    with pytest.raises(ValueError, match="leaves the store"):
        store.path("../outside")


def test_a_saved_file_and_a_saved_folder_replace_what_was_there():
    for content in (b"one", b"two"):
        temp = store.new_temp(".txt")
        temp.write_bytes(content)
        assert store.save(temp, "a/file.txt") == checksum(store.path("a/file.txt"))
        assert store.path("a/file.txt").read_bytes() == content
        box = store.new_temp()
        box.mkdir()
        (box / content.decode()).write_bytes(content)
        store.save(box, "a/box")
        assert [p.name for p in store.path("a/box").iterdir()] == [content.decode()]


def test_only_old_leftovers_are_swept():
    old, young = store.new_temp(".tif"), store.new_temp(".tif")
    for path in (old, young):
        path.write_bytes(b"half a slide")
    os.utime(old, (time.time() - 1000, time.time() - 1000))
    assert store.sweep_temp(500) == 1
    assert not old.exists() and young.exists()
