"""Measures what the promise costs, against what a user would pick instead, in the same run."""
