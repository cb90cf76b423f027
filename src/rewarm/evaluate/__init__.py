"""Before and after: bits per byte, benchmark tasks, and what changed between two models, with error bars."""
