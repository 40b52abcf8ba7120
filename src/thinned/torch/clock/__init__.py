"""The clock of an adopted model: which seed, step, call and rows its sites draw at."""
