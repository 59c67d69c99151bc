"""Settings compose the house. They name `frontend` by string; no other module of the platform does."""

from .base import *  # noqa: F403
from .queue import *  # noqa: F403
from .security import *  # noqa: F403
from .slides import *  # noqa: F403
