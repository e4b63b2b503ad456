"""A book in progress on the disk: what it was begun with, its chunks, and the state to go on from."""
