"""Finds the files of a corpus, reads their footers, cuts them into units, and reads their columns."""
