"""Where people train: what the callbacks of other libraries' trainers do."""
