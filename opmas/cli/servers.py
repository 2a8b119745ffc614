"""Verbs that become a server: `manager run`, `api run`. Servers and their libraries are imported nowhere else."""


def run_manager() -> int:
    """Run the AgentManager in the foreground; its settings: config/agent_manager.yaml."""
    from agent_manager.__main__ import main  # noqa: PLC0415 - half a second that other verbs must not pay

    return main()


def run_api() -> int:
    """Run the management API in the foreground; its settings: config/management_api.yaml."""
    from management_api.__main__ import main  # noqa: PLC0415 - as above

    return main()
