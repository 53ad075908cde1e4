"""Two or three checkpoints side by side, and one looked at closely: discovery of roles."""
