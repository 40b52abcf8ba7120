"""The main job: what dropout does for a table of data, and a model that can be applied to more.

`tables` reads, `search` trains and compares, `saved` keeps the model, `job` puts them in order.
Only the command line and the report stand on top of this.
"""
