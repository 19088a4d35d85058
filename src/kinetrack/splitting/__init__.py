"""Who trains, who validates, who tests: strategies, leaks, and the files of a split."""
