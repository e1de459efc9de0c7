"""Run inside a copy of the project: with its own Python, packages and test support.

All of this is copied into the copy and started there. The command itself imports only
`order` and `faults`, which are plain Python and say the same on both sides.
"""
