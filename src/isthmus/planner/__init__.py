"""Thought: pure functions over nouns."""
