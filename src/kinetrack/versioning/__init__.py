"""What DVC knows about this project: the only room that reads its files or calls it."""
