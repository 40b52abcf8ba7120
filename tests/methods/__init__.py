"""The battery: every row of the catalogue with a sample answers to the same checks.

Rows come from the table. A new row is tested as soon as it is there; nothing is added here.
"""
