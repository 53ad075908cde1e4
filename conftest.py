"""What is collected from this root are suites and tests: recipes and benchmarks are programs and take minutes."""

from __future__ import annotations

collect_ignore = ["fixtures", "benchmarks"]
