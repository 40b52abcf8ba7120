"""What depends on PyTorch itself: its modes, compilers, DTensors, torch.fx and recordings."""
