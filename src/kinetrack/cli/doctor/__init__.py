"""`kinetrack doctor`: whether this machine and this project are set up so that commands work."""
