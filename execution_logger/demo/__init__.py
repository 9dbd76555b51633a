"""The demonstration: a workflow host over real files, a real worker, and the count at the end."""
