"""The manager's own tables: what should run, what was last known of it, and what happened."""

from agent_manager.store.rows import AgentRow, AuditRow, EventRow, InstanceRow, NodeRow
from agent_manager.store.store import Store

__all__ = ["AgentRow", "AuditRow", "EventRow", "InstanceRow", "NodeRow", "Store"]
