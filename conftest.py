"""What the project's own tests share. The plugin itself comes through its entry point, as it does for every user."""

from __future__ import annotations

import os

# No test may ask the network for a model: what is meant to fail offline must fail at once.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

pytest_plugins = ["pytester"]
