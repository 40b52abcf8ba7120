"""The report of a fit: one HTML page that needs nothing but itself. It computes nothing."""

from thinned.report.page import page
from thinned.report.targets import page_of_targets

__all__ = ["page", "page_of_targets"]
