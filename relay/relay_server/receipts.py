"""What a report may change. Pure.

Rule 1: every state change of a delivery is decided here, whoever reports it.
Rule 2: delivered and failed are final. Nothing changes after them.
Rule 3: before that every report is possible. A runtime that lost its memory takes a delivery a second
        time, and a report that overtook another one is still true.
Rule 4: `delivered` carries the harness's evidence; `deferred` and `failed` carry their reason.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from relay_client.types import DeliveryStatus, ReceiptOutcome, ReceiptStatus

if TYPE_CHECKING:
    from collections.abc import Mapping

    from relay_client.types import NewReceipt

_ANY = frozenset(ReceiptStatus)

#: Delivery status -> the receipts that may follow.
TRANSITIONS: Mapping[DeliveryStatus, frozenset[ReceiptStatus]] = {
    DeliveryStatus.PENDING: _ANY,
    DeliveryStatus.ACCEPTED: _ANY,
    DeliveryStatus.DEFERRED: _ANY,
    DeliveryStatus.DELIVERED: frozenset(),
    DeliveryStatus.FAILED: frozenset(),
}


def judge(current: DeliveryStatus, report: NewReceipt) -> ReceiptOutcome:
    """RECORDED when `report` may be recorded for a delivery in state `current`, else why not."""
    if report.status not in TRANSITIONS[current]:
        return ReceiptOutcome.DELIVERY_FINAL
    if report.status is ReceiptStatus.DELIVERED:
        complete = report.evidence is not None
    else:
        complete = report.status is ReceiptStatus.ACCEPTED or bool(report.reason)
    return ReceiptOutcome.RECORDED if complete else ReceiptOutcome.INCOMPLETE


__all__ = ["TRANSITIONS", "judge"]
