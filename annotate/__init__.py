"""Condition tags for pretraining corpora."""
