"""What is used of min-dalle: modules (its classes, without side effects), tokenizer (without torch)."""
