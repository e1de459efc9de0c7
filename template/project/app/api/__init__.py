"""Hold this service's routes."""
