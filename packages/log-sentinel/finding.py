"""The finding about one address, in the shape that all findings have."""

import uuid
from datetime import UTC, datetime
from typing import Any

from ledger import Suspect

SUBJECT = "findings.security"

_NAMESPACE = uuid.UUID("6b1f4c0e-52a3-5d0f-9a5b-0c5d5a1e7f10")  # any fixed one: the same facts give the same id


def finding_of(suspect: Suspect, agent_id: str, agent_type: str, threshold: int) -> dict[str, Any]:
    """Describe what `suspect` did; made again from the same lines it has the same `finding_id`."""
    first, last = suspect.attempts[0], suspect.attempts[-1]
    count = len(suspect.attempts)
    return {
        "finding_id": str(uuid.uuid5(_NAMESPACE, f"{agent_id} {suspect.address} {first.at}")),
        "agent_id": agent_id,
        "agent_type": agent_type,
        "severity": severity_of(suspect, threshold),
        "title": f"SSH password guessing from {suspect.address}",
        "description": f"{count} failed passwords from {suspect.address}, for {', '.join(suspect.users)}.",
        "source": suspect.address,
        "details": {
            "address": suspect.address,
            "failed_passwords": count,
            "users": suspect.users,
            "first_seen": _iso(first.at),
            "last_seen": _iso(last.at),
            "subject": last.subject,
        },
        "timestamp": _iso(last.at),
        "remediation": f"Block {suspect.address} at the firewall; allow SSH by key only, or limit it with fail2ban.",
        "references": ["https://attack.mitre.org/techniques/T1110/001/"],
    }


def severity_of(suspect: Suspect, threshold: int) -> str:
    """Judge by how many, and by whether an account that exists was tried."""
    count = len(suspect.attempts)
    if count >= 20 * threshold:
        return "critical"
    if count >= 4 * threshold or any(attempt.known_user for attempt in suspect.attempts):
        return "high"
    return "medium"


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
