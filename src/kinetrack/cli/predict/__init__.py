"""`kinetrack predict`: what videos show, as a table, JSON Lines or CSV, and drawn into a copy."""
