"""Entry of an isolated child: sets its own limits before anything heavy is imported, then runs a module as a command.

It ends with the process that started it: a killed worker leaves no conversion behind that goes on for hours beside the next attempt.

Usage: python -m ml.slides.child MEMORY_MB CPU_SECONDS MODULE [ARG...]. Exit status 71 = out of memory.
"""

from __future__ import annotations

import ctypes
import os
import resource
import runpy
import signal
import sys

OUT_OF_MEMORY_EXIT = 71
PR_SET_PDEATHSIG = 1  # prctl(2)


def main() -> None:
    """Limit address space, processor time and core dumps; run the module; turn MemoryError into its exit status."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
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
