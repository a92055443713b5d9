"""What trainers' readers lack: loss masks, batches. Each file needs nothing of annotate, so it can be copied alone."""
