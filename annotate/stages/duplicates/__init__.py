"""The near-duplicate filter after its signatures, a file a pass: candidates, similarity, components, clusters."""
