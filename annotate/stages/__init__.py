"""The stages, a file each: pure functions, tables in, tables out; they know nothing of Ray, retries or paths."""
