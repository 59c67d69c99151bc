"""The product's settings in a home folder of their own. Imported before anything reads the real one.

A worker that a test starts as a process gets the same home and the name of the test database through the environment.
"""

import os
import tempfile

# Small steps on two cores that workers, servers and a browser use too: a second thread would mostly wait.
os.environ.setdefault("OMP_NUM_THREADS", "1")
if "TISSUEBOARD_TEST_HOME" not in os.environ:
    # The process id lets a later run recognise and remove what a killed run left behind.
    os.environ["TISSUEBOARD_TEST_HOME"] = tempfile.mkdtemp(prefix=f"tissueboard-test-{os.getpid()}-", dir="/tmp")
os.environ["TISSUEBOARD_HOME"] = os.environ["TISSUEBOARD_TEST_HOME"]
os.environ.setdefault("JOBS_EXTRA_HANDLERS", "handlers_for_tests")

from tissueboard.settings import *  # noqa: F403

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
if "TISSUEBOARD_TEST_DATABASE" in os.environ:
    DATABASES["default"]["NAME"] = os.environ["TISSUEBOARD_TEST_DATABASE"]  # noqa: F405
