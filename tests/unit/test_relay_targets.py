"""Addressing: every form of target against every kind of crowd."""

from __future__ import annotations

import itertools

import pytest

from relay_server.errors import ApiError, Unprocessable
from relay_server.targets import Addressee, AmbiguousTarget, Directory, NoRecipients


def ids(agents: list[Addressee]) -> list[str]:
    return [agent.id for agent in agents]


CROWD = Directory(
    [
        Addressee("a1", "backend", label="api", tags=frozenset({"py", "db"})),
        Addressee("b1", "frontend", label="web", tags=frozenset({"ts"})),
        Addressee("c1", "tester", label="web", capabilities=frozenset({"review", "test"})),
        Addressee("d1", "tester", tags=frozenset({"py"}), capabilities=frozenset({"review"})),
        Addressee("web", "odd one"),
    ]
)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("a1", ["a1"]),
        ("backend", ["a1"]),
        ("api", ["a1"]),
        ("id:a1", ["a1"]),
        ("id: a1", ["a1"]),
        ("web", ["web"]),  # an id comes before a label
        ("odd one", ["web"]),
        ("label:web", ["b1", "c1"]),
        ("label:api", ["a1"]),
        ("tag:py", ["a1", "d1"]),
        ("cap:review", ["c1", "d1"]),
        ("broadcast", ["a1", "b1", "c1", "d1", "web"]),
    ],
)
def test_a_target_addresses_exactly_whom_it_describes(target: str, expected: list[str]) -> None:
    assert ids(CROWD.resolve(target, "somebody")) == expected


@pytest.mark.parametrize("sender", ["a1", "backend"])
def test_a_sender_is_left_out_of_fan_outs_by_its_id_and_by_its_name(sender: str) -> None:
    assert ids(CROWD.resolve("broadcast", sender)) == ["b1", "c1", "d1", "web"]
    assert ids(CROWD.resolve("tag:py", sender)) == ["d1"]


def test_a_name_that_several_agents_have_leaves_nobody_out() -> None:
    assert ids(CROWD.resolve("cap:review", "tester")) == ["c1", "d1"]


def test_a_sender_reaches_itself_only_when_it_names_itself() -> None:
    assert ids(CROWD.resolve("a1", "a1")) == ["a1"]
    assert ids(CROWD.resolve("id:a1", "backend")) == ["a1"]
    with pytest.raises(NoRecipients):
        CROWD.resolve("label:api", "a1")


def test_an_ambiguous_name_lists_the_ids_to_choose_from() -> None:
    with pytest.raises(AmbiguousTarget) as refused:
        CROWD.resolve("tester", "a1")
    assert refused.value.code == "ambiguous_target"
    assert refused.value.status == 409
    assert refused.value.candidates == ["c1", "d1"]


def test_an_ambiguous_label_is_refused_as_a_plain_target_only() -> None:
    directory = Directory([Addressee("x", "n1", label="same"), Addressee("y", "n2", label="same")])
    with pytest.raises(AmbiguousTarget, match="label:same"):
        directory.resolve("same", "z")
    assert ids(directory.resolve("label:same", "z")) == ["x", "y"]


def test_an_ambiguous_target_lists_no_more_than_ten() -> None:
    directory = Directory(Addressee(f"n{i:02}", "twin") for i in range(50))
    with pytest.raises(AmbiguousTarget) as refused:
        directory.resolve("twin", "z")
    assert len(refused.value.candidates) == 10
    assert "50 agents" in str(refused.value)


@pytest.mark.parametrize(
    ("target", "candidates"),
    [
        ("bakend", ["backend"]),
        ("nobody at all", []),
        ("id:weeb", ["id:web"]),
        ("label:wep", ["label:web"]),
        ("tag:nothing-like-it", []),
        ("cap:reviews", ["cap:review"]),
        ("machine:x", []),  # an unknown prefix is a plain name
    ],
)
def test_nobody_addressed_is_an_error_that_names_what_looks_alike(
    target: str, candidates: list[str]
) -> None:
    with pytest.raises(NoRecipients) as refused:
        CROWD.resolve(target, "somebody")
    assert refused.value.code == "no_recipients"
    assert refused.value.status == 404
    assert refused.value.candidates[:1] == candidates


@pytest.mark.parametrize("target", ["tag:", "cap: ", "label:", "id:"])
def test_a_prefix_without_a_value_is_invalid(target: str) -> None:
    with pytest.raises(Unprocessable, match="needs a value"):
        CROWD.resolve(target, "somebody")


def test_broadcast_is_never_an_agent() -> None:
    directory = Directory([Addressee("broadcast", "broadcast"), Addressee("x", "y")])
    assert ids(directory.resolve("broadcast", "z")) == ["broadcast", "x"]
    assert ids(directory.resolve("id:broadcast", "z")) == ["broadcast"]


def test_a_relay_without_agents_has_no_recipients() -> None:
    for target in ("x", "broadcast", "tag:x", "cap:x", "label:x", "id:x"):
        with pytest.raises(NoRecipients):
            Directory().resolve(target, "s")


def test_replacing_and_removing_agents_leaves_no_trace_of_the_old_ones() -> None:
    directory = Directory([Addressee("x", "old", label="l", tags=frozenset({"t"}))])
    directory.put(Addressee("x", "new", capabilities=frozenset({"c"})))
    assert ids(directory.resolve("new", "s")) == ["x"]
    assert ids(directory.resolve("cap:c", "s")) == ["x"]
    for gone in ("old", "l", "tag:t", "label:l"):
        with pytest.raises(NoRecipients):
            directory.resolve(gone, "s")
    directory.remove("x")
    directory.remove("x")
    assert len(directory) == 0
    with pytest.raises(NoRecipients):
        directory.resolve("cap:c", "s")


def _described(agents: tuple[Addressee, ...], target: str, sender: str) -> set[str] | None:
    """Who is addressed, by the rules as they are written down; None when it is refused."""
    named = [agent.id for agent in agents if agent.name == sender]
    sender_id = sender if any(a.id == sender for a in agents) else None
    if sender_id is None and len(named) == 1:
        sender_id = named[0]
    prefix, _, value = target.partition(":")
    groups = {
        "broadcast": [a for a in agents if target == "broadcast"],
        "label": [a for a in agents if a.label == value],
        "tag": [a for a in agents if value in a.tags],
        "cap": [a for a in agents if value in a.capabilities],
    }
    if prefix in groups:
        return {a.id for a in groups[prefix] if a.id != sender_id} or None
    for found in (
        {a.id for a in agents if a.id == target},
        {a.id for a in agents if a.name == target},
        {a.id for a in agents if a.label == target},
    ):
        if found:
            return found if len(found) == 1 else None
    return None


def test_all_small_crowds_are_addressed_as_the_rules_say() -> None:
    kinds = [
        (name, label, frozenset(tags))
        for name in ("n", "m")
        for label in (None, "n", "l")
        for tags in ((), ("t",))
    ]
    targets = ("n", "m", "l", "0", "label:n", "label:l", "tag:t", "cap:t", "broadcast")
    checked = 0
    for crowd in itertools.product(kinds, repeat=2):
        agents = tuple(
            Addressee(str(i), name, label=label, tags=tags, capabilities=tags)
            for i, (name, label, tags) in enumerate(crowd)
        )
        directory = Directory(agents)
        for target, sender in itertools.product(targets, ("0", "n", "x")):
            try:
                told: set[str] | None = set(ids(directory.resolve(target, sender)))
            except ApiError:
                told = None
            assert told == _described(agents, target, sender), (agents, target, sender)
            checked += 1
    assert checked == 12 * 12 * len(targets) * 3
