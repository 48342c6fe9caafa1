"""Data: what each dataset is, its images decoded once, and reproducible batches of them."""
