"""The drop-in: torch.nn's dropout modules and functions, at a fresh seed or at an address."""
