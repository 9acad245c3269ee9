"""A rendered basketball court with exact labels, and the tiny SAM 3 that is trained on it."""
