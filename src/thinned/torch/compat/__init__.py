"""What depends on PyTorch itself: its modes, its older compilers, DTensors, torch.fx, recordings."""
