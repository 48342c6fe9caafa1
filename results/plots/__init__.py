"""The figures, one kind a file: each turns a comparison, or what was made of it, into a figure."""
