"""`kinetrack compare`: results on the same test clips, and how sure their difference is."""
