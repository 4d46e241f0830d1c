"""`python -m isthmus.doors.cli`."""

from __future__ import annotations

from isthmus.doors.cli.interrupt import end_at_interrupt

if __name__ == "__main__":
    end_at_interrupt()
    from isthmus.doors.cli.main import main

    main()
