"""The near-duplicate filter, a file a pass: signatures, candidate pairs, their similarity, components, keepers, verdicts."""
