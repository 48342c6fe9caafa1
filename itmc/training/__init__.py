"""The protocol of a method, and the one loop that trains every stage of every method."""
