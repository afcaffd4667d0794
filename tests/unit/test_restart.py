"""What follows when an agent's process ends, over all policies and long histories."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_profiles.model import Policy as ProfilePolicy
from relay_profiles.model import Restart as ProfileRestart
from relay_runtime.events import ErrorClass, ErrorInfo, ExitClass
from relay_runtime.restart import (
    History,
    HoldFor,
    Policy,
    Restart,
    RestartPolicy,
    Stop,
    backoff,
    decide,
    hold_for,
)
from relay_runtime.supervisor.supervisor import restart_policy

DEFAULT = RestartPolicy()
chances = st.floats(0, 1, exclude_max=True)
policies = st.builds(
    RestartPolicy,
    policy=st.sampled_from([Policy.ON_FAILURE, Policy.ALWAYS]),
    max_restarts=st.integers(0, 6),
    period_s=st.floats(1, 1000),
    initial_s=st.floats(0, 10),
    factor=st.floats(1, 10),
    max_s=st.floats(10, 100),
    jitter=st.floats(0, 1),
    stable_after_s=st.floats(0, 100),
    same_conversation=st.booleans(),
)


def restart(decision: Restart | HoldFor | Stop) -> Restart:
    assert isinstance(decision, Restart)
    return decision


@pytest.mark.parametrize(
    ("exit_class", "never", "on_failure", "always"),
    [
        (ExitClass.CLEAN, Stop, Stop, Restart),
        (ExitClass.CRASH, Stop, Restart, Restart),
        (ExitClass.START_FAILED, Stop, Stop, Stop),
        (ExitClass.RESUME_REFUSED, Stop, Restart, Restart),
        (ExitClass.AUTH, HoldFor, HoldFor, HoldFor),
    ],
)
def test_each_exit_under_each_policy(
    exit_class: ExitClass, never: type, on_failure: type, always: type
) -> None:
    expected = {Policy.NEVER: never, Policy.ON_FAILURE: on_failure, Policy.ALWAYS: always}
    for policy, kind in expected.items():
        decision = decide(RestartPolicy(policy), History(), exit_class, 100.0, 0.0)
        assert type(decision) is kind


def test_a_crash_loop_is_stopped_and_says_how_many_restarts_it_had() -> None:
    history, now = History(), 0.0
    for _ in range(5):
        decision = restart(decide(DEFAULT, history, ExitClass.CRASH, now, 0.0))
        history, now = decision.history, decision.at
    assert decide(DEFAULT, history, ExitClass.CRASH, now, 0.0) == Stop(
        "crash loop: 5 restarts in 600 s"
    )


def test_restarts_that_left_the_window_no_longer_count() -> None:
    history = History(restarts=(0.0, 1.0, 2.0, 3.0, 4.0), in_a_row=5)
    assert isinstance(decide(DEFAULT, history, ExitClass.CRASH, 599.0, 0.0), Stop)
    assert isinstance(decide(DEFAULT, history, ExitClass.CRASH, 600.5, 0.0), Restart)


def test_delays_grow_in_a_row_and_start_anew_after_a_stable_run() -> None:
    history, now, delays = History(), 0.0, []
    for _ in range(4):
        decision = restart(decide(DEFAULT, history, ExitClass.CRASH, now, 0.0))
        delays.append(decision.at - now)
        history, now = decision.history, decision.at
    assert delays == [1.0, 2.0, 4.0, 8.0]
    after_a_stable_run = restart(decide(DEFAULT, history, ExitClass.CRASH, now + 60.0, 0.0))
    assert after_a_stable_run.at == now + 61.0


def test_a_stable_run_does_not_empty_the_window() -> None:
    history = History(restarts=(0.0, 61.0, 122.0, 183.0, 244.0), in_a_row=1)
    assert isinstance(decide(DEFAULT, history, ExitClass.CRASH, 305.0, 0.0), Stop)


def test_the_conversation_is_continued_only_where_the_policy_wants_it() -> None:
    fresh = RestartPolicy(same_conversation=False)
    assert restart(decide(DEFAULT, History(), ExitClass.CRASH, 0.0, 0.0)).resume
    assert not restart(decide(fresh, History(), ExitClass.CRASH, 0.0, 0.0)).resume


def test_a_refused_conversation_is_given_up_for_a_fresh_one_once() -> None:
    first = restart(decide(DEFAULT, History(), ExitClass.RESUME_REFUSED, 0.0, 0.0))
    assert not first.resume
    assert isinstance(decide(DEFAULT, first.history, ExitClass.RESUME_REFUSED, 2.0, 0.0), Stop)


@given(
    policy=policies,
    runs=st.lists(st.tuples(st.floats(0, 300), chances), min_size=1, max_size=40),
)
def test_there_are_never_more_restarts_in_a_window_than_allowed(
    policy: RestartPolicy, runs: list[tuple[float, float]]
) -> None:
    history, now, all_restarts = History(), 1000.0, []
    for lasted, chance in runs:
        decision = decide(policy, history, ExitClass.CRASH, now, chance)
        if isinstance(decision, Restart):
            assert decision.at >= now
            history = decision.history
            all_restarts.append(decision.at)
            now = decision.at
        # After a stop a person may start it again later: the history still counts.
        now += lasted
    for end in all_restarts:
        window = [at for at in all_restarts if end - policy.period_s < at <= end]
        assert len(window) <= policy.max_restarts


@given(policy=policies, in_a_row=st.integers(0, 10_000), chance=chances)
def test_delays_never_shrink_and_never_exceed_the_bound(
    policy: RestartPolicy, in_a_row: int, chance: float
) -> None:
    delay = backoff(policy, in_a_row, chance)
    assert 0 <= delay <= policy.max_s
    assert delay <= backoff(policy, in_a_row + 1, chance)


@given(
    restarts=st.lists(st.floats(0, 1e6), max_size=200),
    now=st.floats(0, 1e6),
    chance=chances,
)
def test_a_history_does_not_grow_beyond_the_window(
    restarts: list[float], now: float, chance: float
) -> None:
    decision = decide(DEFAULT, History(tuple(sorted(restarts))), ExitClass.CRASH, now, chance)
    if isinstance(decision, Restart):
        assert len(decision.history.restarts) <= DEFAULT.max_restarts


def test_a_rate_limit_is_waited_for_until_its_reset() -> None:
    error = ErrorInfo(ErrorClass.RATE_LIMIT, "slow down", 429, retry_at=1234.0)
    assert hold_for(error, 3, 1000.0, 0.5) == 1234.0


@pytest.mark.parametrize(
    ("error", "first", "longest"),
    [(ErrorClass.RATE_LIMIT, 30.0, 900.0), (ErrorClass.OVERLOADED, 5.0, 120.0)],
)
def test_an_error_without_a_time_is_waited_for_longer_each_time_up_to_a_bound(
    error: ErrorClass, first: float, longest: float
) -> None:
    for retry_at in (None, 999.0):  # a time that has passed says nothing
        info = ErrorInfo(error, "…", retry_at=retry_at)
        held = [hold_for(info, failures, 1000.0, 0.0) for failures in range(1, 40)]
        waits = [until - 1000.0 for until in held if until is not None]
        assert waits[0] == first
        assert waits[-1] == longest
        assert waits == sorted(waits)
        assert len(waits) == len(held)


def test_an_endpoint_that_names_a_short_time_again_and_again_is_not_asked_at_that_pace() -> None:
    info = ErrorInfo(ErrorClass.RATE_LIMIT, "…", retry_at=1000.1)
    held = [hold_for(info, failures, 1000.0, 0.0) for failures in range(1, 40)]
    waits = [until - 1000.0 for until in held if until is not None]
    assert waits[:4] == [1.0, 2.0, 4.0, 8.0]
    assert waits[-1] == 900.0


@given(
    error=st.sampled_from([ErrorClass.RATE_LIMIT, ErrorClass.OVERLOADED]),
    failures=st.integers(0, 10_000),
    chance=chances,
)
def test_holds_are_bounded_and_spread(error: ErrorClass, failures: int, chance: float) -> None:
    longest = {ErrorClass.RATE_LIMIT: 900.0, ErrorClass.OVERLOADED: 120.0}[error]
    until = hold_for(ErrorInfo(error, "…"), failures, 0.0, chance)
    assert until is not None
    assert 0 < until <= longest


def test_a_refused_login_is_waited_for_until_a_person_acts() -> None:
    assert hold_for(ErrorInfo(ErrorClass.AUTH, "log in", 401), 1, 1000.0, 0.0) is None


def test_a_profile_that_says_nothing_means_the_default_policy() -> None:
    assert restart_policy(ProfileRestart()) == DEFAULT
    assert {policy.value for policy in ProfilePolicy} == {policy.value for policy in Policy}
