"""Model the ledger: run its real code under interleavings and crashes by chance.

It runs inside a generated project, whose environment it needs: `python -m ledger_model
--help`.
"""
