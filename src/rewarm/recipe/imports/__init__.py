"""Configurations of other programs, turned into recipes, with a note on every key of them."""
