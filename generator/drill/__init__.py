"""Breaks a running service in every way we can think of, and counts what became of its tasks."""
