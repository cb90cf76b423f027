"""REST under ``/api/v1``: who asks, may they, and the verb; nothing else stands here."""
