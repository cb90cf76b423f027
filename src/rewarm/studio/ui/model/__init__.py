"""What may be done with a version of a model."""
