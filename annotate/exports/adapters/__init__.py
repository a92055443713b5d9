"""Loss masks for trainers whose readers have none. Each file needs the trainer alone, and can be copied to it."""
