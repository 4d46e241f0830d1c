"""`python -m isthmus.doors.cli`."""

from __future__ import annotations

from isthmus.doors.cli.main import main

if __name__ == "__main__":
    main()
