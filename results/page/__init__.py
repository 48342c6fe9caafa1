"""The report's page: what it says, as data, and how it is drawn in a browser."""
