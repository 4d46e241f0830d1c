"""Container networks on Linux: declared, planned, applied, repaired, explained."""
