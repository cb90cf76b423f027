"""Before and after: what changed between two models with its error bars, as a report, a page and a model card."""
