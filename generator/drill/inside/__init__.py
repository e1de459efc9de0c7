"""What runs in a copy of the project, with the project's own Python, packages and test support.

Nothing here is imported by the command: it is copied into the copy and started there.
"""
