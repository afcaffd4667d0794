"""What may follow what, over the whole table."""

from __future__ import annotations

import itertools

import pytest

from relay_client.types import (
    FINAL,
    MAX_REASON,
    DeliveryStatus,
    Evidence,
    NewReceipt,
    ReceiptOutcome,
    ReceiptStatus,
)
from relay_server.receipts import TRANSITIONS, judge

EVIDENCE = Evidence(kind="test", reference="1")


def report(
    status: ReceiptStatus, *, reason: str | None = "r", evidence: Evidence | None = EVIDENCE
) -> NewReceipt:
    return NewReceipt(
        receipt_id="r", delivery_id="d", status=status, reason=reason, evidence=evidence, at=1.0
    )


def test_the_table_covers_every_status() -> None:
    assert set(TRANSITIONS) == set(DeliveryStatus)


@pytest.mark.parametrize(
    ("current", "status"), list(itertools.product(DeliveryStatus, ReceiptStatus)), ids=str
)
def test_everything_may_follow_until_a_status_is_final(
    current: DeliveryStatus, status: ReceiptStatus
) -> None:
    expected = ReceiptOutcome.DELIVERY_FINAL if current in FINAL else ReceiptOutcome.RECORDED
    assert judge(current, report(status)) is expected


@pytest.mark.parametrize(
    ("status", "reason", "evidence", "complete"),
    [
        (ReceiptStatus.ACCEPTED, None, None, True),
        (ReceiptStatus.DEFERRED, None, EVIDENCE, False),
        (ReceiptStatus.DEFERRED, "", None, False),
        (ReceiptStatus.DEFERRED, "busy", None, True),
        (ReceiptStatus.DELIVERED, "because", None, False),
        (ReceiptStatus.DELIVERED, None, EVIDENCE, True),
        (ReceiptStatus.FAILED, None, EVIDENCE, False),
        (ReceiptStatus.FAILED, "exited", None, True),
    ],
)
def test_delivered_needs_evidence_and_a_setback_its_reason(
    status: ReceiptStatus, reason: str | None, evidence: Evidence | None, complete: bool
) -> None:
    outcome = judge(DeliveryStatus.ACCEPTED, report(status, reason=reason, evidence=evidence))
    assert outcome is (ReceiptOutcome.RECORDED if complete else ReceiptOutcome.INCOMPLETE)


def test_an_incomplete_report_about_a_final_delivery_is_told_that_it_is_final() -> None:
    late = report(ReceiptStatus.FAILED, reason=None)
    assert judge(DeliveryStatus.DELIVERED, late) is ReceiptOutcome.DELIVERY_FINAL


def test_a_long_reason_is_cut_and_not_refused() -> None:
    cut = report(ReceiptStatus.FAILED, reason="x" * (MAX_REASON + 1)).reason
    assert cut is not None
    assert len(cut) == MAX_REASON
    assert cut.endswith("…")
