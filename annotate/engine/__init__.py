"""The engine: runs any stage on Ray; it owns scheduling, retries, resume, progress and the ledger."""
