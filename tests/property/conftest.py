"""No deadline for one example: it would measure the machine's other work."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("isthmus", deadline=None)
settings.load_profile("isthmus")
