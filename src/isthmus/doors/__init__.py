"""Front doors: parse, call the engine, print."""
