"""The verbs: what the API, the pages and the command line can do, as functions of a studio, a user and values."""
