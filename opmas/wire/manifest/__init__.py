"""`agent.yaml`: what a package says of its agent, read from text and checked.

No file is opened here: the manager, which has a disk, looks for those that a manifest names.
"""

from opmas.wire.manifest.config import merged_config, validate_config
from opmas.wire.manifest.environment import merge_environment, needs_new_interpreter, parse_env_file
from opmas.wire.manifest.model import Manifest
from opmas.wire.manifest.parsing import parse_manifest
from opmas.wire.manifest.permissions import covers, refused_subjects
from opmas.wire.manifest.runs import AgnoStore
from opmas.wire.manifest.schema import manifest_schema
from opmas.wire.manifest.sections import DependencyCondition, OnHang, RestartCondition, Runtime, Watch
from opmas.wire.manifest.venv import Isolation

__all__ = [
    "AgnoStore",
    "DependencyCondition",
    "Isolation",
    "Manifest",
    "OnHang",
    "RestartCondition",
    "Runtime",
    "Watch",
    "covers",
    "manifest_schema",
    "merge_environment",
    "merged_config",
    "needs_new_interpreter",
    "parse_env_file",
    "parse_manifest",
    "refused_subjects",
    "validate_config",
]
