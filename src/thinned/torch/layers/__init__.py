"""Modules of the catalogue: those made from its rows, and those with parameters or parts."""
