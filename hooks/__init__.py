"""Do what belongs around a render: refuse before it, install and commit after it.

The command does this, because a template that did it would need `--trust`. What is
shared with the packages above stands here too: how programs are run, and refusals.
"""
