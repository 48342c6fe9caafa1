"""How good a network is on the target: accuracy for the record, scores that need no label."""
