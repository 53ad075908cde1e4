"""The package's own measures, one file per family: what a suite may write about each, beside what computes it.

To add a family, write its file and name it in `measures/registry.py`. These files are imported wherever suites are
checked, so torch is imported in their functions alone.
"""
