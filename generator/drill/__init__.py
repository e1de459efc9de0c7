"""Break a running service in every way we know, and count what became of its tasks."""
