"""`kinetrack forget`: a clip out of the present version, and where else it still is."""
