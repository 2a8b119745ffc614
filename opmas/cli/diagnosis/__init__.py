"""What `opmas doctor` examines: the machine, the servers of this OPMAS_HOME, the fleet; one check, one function.

The checks are those of docs/troubleshooting.md. Each looks and changes nothing.
"""
