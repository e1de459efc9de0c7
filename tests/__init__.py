"""Proofs that every variant renders, runs and keeps its promise, and that bad input is refused."""
