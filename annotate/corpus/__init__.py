"""The files that a corpus is read from: found, read by footers, cut into units, read by columns."""
