"""Probes: linear heads on the hidden states of one encoder. Their files, their training, and what it reports."""
