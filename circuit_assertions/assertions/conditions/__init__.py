"""The conditions of `expect`, one module each; `assertions/registry.py` finds them, and those of other packages."""
