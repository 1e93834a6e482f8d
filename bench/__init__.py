"""How fast is the server, and does it keep its ceilings? `python -m bench --help`."""
