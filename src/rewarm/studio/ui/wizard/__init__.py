"""The steps of *Create Pipeline*. All of them work on one draft, whose heart is the recipe itself."""
