"""Statistics over sets of images, from the features of a network that is handed in."""
