"""Admission: plug-ins and webhook call-outs. (Webhooks follow.)"""

from __future__ import annotations

from localmesh.apiserver.call import Call, Target
from localmesh.apiserver.jsonvalue import JsonObject


class Webhooks:
    async def mutate(
        self, target: Target, operation: str, obj: JsonObject | None, old: JsonObject | None, call: Call
    ) -> JsonObject | None:
        return obj

    async def validate(
        self, target: Target, operation: str, obj: JsonObject | None, old: JsonObject | None, call: Call
    ) -> None:
        return None
