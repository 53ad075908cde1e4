"""The verbs of `circuit-assertions` that are more than a few lines."""
