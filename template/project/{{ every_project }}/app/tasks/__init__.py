"""Hold this service's tasks; every module in this package is found without being registered."""
