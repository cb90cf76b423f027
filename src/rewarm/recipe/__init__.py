"""The recipe: what a run is made of, what it will do, and what it will cost, before anything heavy starts."""
