"""A model of the ledger: its real code under every interleaving and crash that chance comes upon.

It runs inside a generated project, whose environment it needs: `python -m ledger_model
--help`.
"""
