"""The Studio: the verbs of the workspace for a team, over HTTP, with accounts, a queue and a record of who did what.

It never imports torch. It starts engine processes and learns everything from the files that they append, so that
killing the server never hurts a run.
"""
