"""A search for the simplest prompt on which an assertion fails that holds on average."""

from __future__ import annotations

from circuit_assertions.hunting.errors import HuntError

__all__ = ["HuntError"]
