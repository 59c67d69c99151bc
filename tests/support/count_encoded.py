"""For a worker of a test (JOBS_EXTRA_HANDLERS): every call of an encoder is a line in the file COUNT_ENCODED with how many tiles it got."""

import os

from ml.encoders.runtime import Encoder

inner = Encoder.__call__


def counted(encoder, tiles):
    with open(os.environ["COUNT_ENCODED"], "a") as file:
        file.write(f"{os.getpid()} {len(tiles)} {'probe' if (tiles == 255).all() else 'work'}\n")
    return inner(encoder, tiles)


Encoder.__call__ = counted
