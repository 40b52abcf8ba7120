"""HTML pages that need nothing but themselves: their frame, their style, their colours."""
