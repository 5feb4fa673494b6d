"""Sweeps: from values on the command line to cells, from cells to programs, and what they left."""
