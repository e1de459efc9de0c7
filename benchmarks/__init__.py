"""Measure what the promise costs, in turns with what a user would pick instead."""
