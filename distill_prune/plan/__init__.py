"""What a pipeline file means: settings, arms, the grid, every artifact and its key before any is made."""
