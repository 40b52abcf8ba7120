"""adopt and release, and what stands in a model between the two."""
