"""The order of training: phases, and sources mixed by weight."""
