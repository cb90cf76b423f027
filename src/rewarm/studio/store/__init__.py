"""What only the Studio knows, and an index of what the folders hold; every question is one function."""
