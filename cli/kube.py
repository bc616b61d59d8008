"""The command's Kubernetes client is the conformance suite's, which must stand without the command.

Re-exported so that the command has one name for it.
"""

from conformance.kube import (
    MERGE_PATCH,
    Change,
    Credentials,
    Kube,
    KubeconfigError,
    KubeError,
    Object,
    Resource,
    condition,
    is_current,
)

__all__ = [
    "MERGE_PATCH",
    "Change",
    "Credentials",
    "Kube",
    "KubeError",
    "KubeconfigError",
    "Object",
    "Resource",
    "condition",
    "is_current",
]
