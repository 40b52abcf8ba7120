"""Attention with dropout on its weights, computed block by block."""
