"""Scorers: models that give spans a score on one or more axes."""
