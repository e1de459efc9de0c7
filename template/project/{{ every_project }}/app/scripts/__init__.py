"""Hold this service's scripts; `python -m app.scripts.<name>` runs one."""
