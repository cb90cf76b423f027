"""The five stages of a run, and the process that goes through them."""
