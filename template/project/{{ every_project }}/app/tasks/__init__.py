"""Hold this service's tasks; every module here is found without registration."""
