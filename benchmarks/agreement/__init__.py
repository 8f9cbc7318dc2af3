"""How near the fast posterior is to NUTS on the same Pyro program."""
