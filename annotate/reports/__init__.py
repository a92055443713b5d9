"""What runs have found, gathered from committed datasets for people to read."""
