"""Storage: object stores, contracts, committed parts, manifests, and the files of a corpus."""
