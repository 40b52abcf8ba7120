"""Kernels in Triton, for CUDA devices. Nothing here is imported before a tensor of one comes.

words : the parameters of a kernel, in six 64-bit words.
bits : Philox, the planes, and keep bits on their way to the elements.
dropping, packing, drawing : the kernels. launch : how they are called.
attention, residual : those of attention and of a residual stream. attending, summing : how they are
called.
"""
