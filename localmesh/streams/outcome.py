"""How a command ended, in the words of the error stream. Pure.

Source: k8s.io/apimachinery `StatusReasonInternalError`, k8s.io/apimachinery/pkg/util/remotecommand
(`NonZeroExitCodeReason`, cause `ExitCode`): what client-go's v4 error decoder reads.
"""

from __future__ import annotations

import json
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Outcome:
    """`code` of the process, or why it could not be run or watched to its end."""

    code: int = 0
    error: str = ""

    def status(self) -> bytes:
        """A Status object, as of the v4 protocols."""
        if self.error:
            return _status(
                "Failure",
                message=f"Internal error occurred: {self.error}",
                reason="InternalError",
                details={"causes": [{"message": self.error}]},
                code=500,
            )
        if self.code:
            return _status(
                "Failure",
                message=f"command terminated with non-zero exit code: exit status {self.code}",
                reason="NonZeroExitCode",
                details={"causes": [{"reason": "ExitCode", "message": str(self.code)}]},
            )
        return _status("Success")

    def text(self) -> bytes:
        """Before v4: nothing at all on success."""
        if self.error:
            return self.error.encode()
        return f"command terminated with exit code {self.code}".encode() if self.code else b""


def _status(status: str, **more: object) -> bytes:
    return json.dumps({"metadata": {}, "status": status, **more}, separators=(",", ":")).encode()
