"""Token shards in the formats that trainers read: a file a format, and what writes one to storage."""
