"""Turns the template into projects, and proves that each of its variants keeps its promise."""
