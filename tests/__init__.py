"""Prove that every variant renders, runs and keeps its promise."""
