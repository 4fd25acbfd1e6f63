"""The engine. Knows no system, no network and no data set."""
