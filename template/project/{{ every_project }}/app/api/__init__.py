"""Hold this service's routes; every `router` here is found without registration."""

import importlib
import pkgutil

from fastapi import APIRouter


def find_routes() -> APIRouter:
    """Return the routes of all modules in this package."""
    routes = APIRouter()
    for module in pkgutil.iter_modules(__path__, f"{__name__}."):
        router = getattr(importlib.import_module(module.name), "router", None)
        if isinstance(router, APIRouter):
            routes.include_router(router)
    return routes
