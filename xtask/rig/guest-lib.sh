# guest helper functions
