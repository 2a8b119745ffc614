"""Which revision the manager's tables are at; bringing them there is `opmas.database`'s business."""

from opmas.database import Branch

BRANCH = "agent_manager"
HEAD = "am0002"

REVISIONS = Branch(BRANCH, HEAD)
