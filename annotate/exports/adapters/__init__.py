"""What trainers' readers lack: loss masks, batches. Each file needs the trainer alone, and can be copied to it."""
