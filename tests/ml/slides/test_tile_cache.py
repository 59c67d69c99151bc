"""Memory of decoded tiles is never lost, also when two threads make the same tile at once."""

import numpy as np

from ml.slides.tile_cache import SLAB_TILES, TileCache

SHAPE = (8, 8, 3)


def fill(value):
    return lambda pixels: pixels.fill(value)


def test_the_same_tile_made_twice_at_once_costs_no_memory():
    cache = TileCache(SHAPE, 0)
    for i in range(10 * SLAB_TILES):

        def twice(pixels, i=i):
            """While this one is being made, another thread makes it, reads it and gives it back."""
            other = cache.lend((0, i), fill(1))
            cache.give_back((0, i), other)
            pixels.fill(2)

        lent = cache.lend((0, i), twice)
        assert np.all(lent.pixels == 2)
        cache.give_back((0, i), lent)
    assert cache.held_bytes <= 2 * SLAB_TILES * np.prod(SHAPE)


def test_a_tile_that_is_read_is_not_given_to_another():
    cache = TileCache(SHAPE, 0)
    held = [cache.lend((0, i), fill(i % 250)) for i in range(2 * SLAB_TILES)]
    assert [int(lent.pixels[0, 0, 0]) for lent in held] == [i % 250 for i in range(2 * SLAB_TILES)]
