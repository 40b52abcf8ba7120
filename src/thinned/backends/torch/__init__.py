"""The PyTorch backend. `backend` is what methods call; the other files are what it is made of."""
