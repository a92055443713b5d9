"""Models that read text: how one is found, what it reads, how it is loaded and run."""
