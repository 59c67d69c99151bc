"""Entry of an isolated child: sets its own limits before anything heavy is imported, then runs a module as a command.

Usage: python -m ml.slides.child MEMORY_MB CPU_SECONDS MODULE [ARG...]. Exit status 71 = out of memory.
"""

from __future__ import annotations

import os
import resource
import runpy
import sys

OUT_OF_MEMORY_EXIT = 71


def main() -> None:
    """Limit address space, processor time, open files and core dumps; run the module; turn MemoryError into its exit status."""
    memory, seconds = int(sys.argv[1]) * 1024 * 1024, int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.argv = sys.argv[3:]
    try:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    except MemoryError:
        os._exit(OUT_OF_MEMORY_EXIT)


if __name__ == "__main__":
    main()
