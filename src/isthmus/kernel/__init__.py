"""Hands: the only code that changes the host."""
