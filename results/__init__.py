"""Tables and plots from run records; reads files only, needs neither torch nor the suite itself."""
