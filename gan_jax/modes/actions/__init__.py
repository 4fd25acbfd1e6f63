"""What the modes do, as functions: each makes the files of one mode and returns their paths."""
