"""MinHash signatures of texts, and locality-sensitive hashing of them; knows nothing of stages or storage."""
