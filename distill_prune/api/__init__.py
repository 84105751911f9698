"""Functions for programs and notebooks: a study by its name, and the parts of one for networks and data of one's own."""
