"""The report of a fit: one HTML page that needs nothing but itself. It computes nothing."""

from thinned.report.page import page

__all__ = ["page"]
