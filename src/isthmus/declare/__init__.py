"""Speech: the declared file to nouns."""
