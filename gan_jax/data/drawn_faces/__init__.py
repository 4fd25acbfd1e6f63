"""A renderer of portraits and caricatures."""
