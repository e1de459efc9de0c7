"""Serve as one does without a ledger: commit the order, then enqueue its task.

Nothing here is imported where it stands. `musthappen drill` copies it into a project of
the same engine, with one of `engines` as `engine.py`, and runs it there.
"""
