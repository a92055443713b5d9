"""Object stores, the layout on disk, contracts, committed parts, manifests, and readers of results."""
