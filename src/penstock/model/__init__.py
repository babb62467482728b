"""The nouns of Penstock. Standard library only; every other package may import this one."""
