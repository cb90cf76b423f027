"""Documents to packed token shards, and shards to batches. Needs numpy and tokenizers, never torch."""
