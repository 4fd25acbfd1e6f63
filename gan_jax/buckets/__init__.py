"""Runs and data in buckets, gs:// and s3://. A bucket holds a copy; work is done on the disk."""
