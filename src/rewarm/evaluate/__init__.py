"""What a model scores: bits per byte of texts, and benchmark tasks."""
