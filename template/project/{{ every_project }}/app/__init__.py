"""The service: its routes in `api`, its tasks in `tasks`, what carries them out in `delivery`."""
