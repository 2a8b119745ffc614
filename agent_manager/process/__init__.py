"""Template, shim and slot: how an instance becomes a process and stays one."""
