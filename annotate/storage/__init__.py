"""Storage: object stores, contracts, committed parts and manifests."""
