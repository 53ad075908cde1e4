"""Sweeps: suites on many checkpoints, by local processes or on a Ray cluster, one result file each."""
