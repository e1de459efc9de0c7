"""Hold the service: routes in `api`, tasks in `tasks`, their delivery in `delivery`."""
