"""The tabs of one run, and what may be done with it."""
