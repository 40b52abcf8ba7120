"""Models of other libraries, built small with random weights, and what adoption does to each."""
