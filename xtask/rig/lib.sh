# dom0 helper functions
