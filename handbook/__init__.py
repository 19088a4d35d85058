"""What of the documentation is made from the code, and how its site is built: `make docs`."""
