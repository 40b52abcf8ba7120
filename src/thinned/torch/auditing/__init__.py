"""audit: what running a model shows of its dropout."""
