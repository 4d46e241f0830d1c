"""Container networks on Linux: declared, planned, applied, repaired, explained."""

from isthmus import loading

loading.install()
