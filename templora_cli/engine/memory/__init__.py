"""What a book takes of memory, and what the machine has."""
