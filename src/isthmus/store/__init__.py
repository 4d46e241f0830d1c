"""Memory: what was asked for, and what the kernel cannot tell."""
