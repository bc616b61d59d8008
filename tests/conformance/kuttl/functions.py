"""Steps of `suites/failing` that are functions."""

from __future__ import annotations

import asyncio
from typing import Final

from conformance.kuttl.steps import Context, StepFailed


async def judge(context: Context) -> None:
    raise StepFailed(f"saw three in {context.test}/{context.step}")


async def buggy(_: Context) -> None:
    raise KeyError("oops")


async def endless(_: Context) -> None:
    await asyncio.Event().wait()


STEPS: Final = {
    "function": {"judge": judge, "never": judge},
    "buggy-function": {"judge": buggy},
    "endless-function": {"judge": endless},
}
