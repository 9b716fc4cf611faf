"""Locks, sessions, transactions and waits as py-consul, which Patroni builds on, does them."""
import sys
import threading

import consul

client = consul.Consul(host="127.0.0.1", port=int(sys.argv[1]))
node = client.agent.self()["Member"]["Name"]

# Values, prefixes, conditions.
assert client.kv.get("missing")[1] is None
assert client.kv.put("app/a", "1", flags=42) is True
assert client.kv.put("app/b", b"\x00\xff") is True
index, entry = client.kv.get("app/a")
assert (entry["Value"], entry["Flags"]) == (b"1", 42), entry
assert int(index) == entry["ModifyIndex"], (index, entry)
assert client.kv.put("app/a", "2", cas=0) is False
assert client.kv.put("app/a", "2", cas=entry["ModifyIndex"]) is True
assert [it["Key"] for it in client.kv.get("app/", recurse=True)[1]] == ["app/a", "app/b"]
assert client.kv.get("", keys=True, separator="/")[1] == ["app/"]

# A wait ends with a write from elsewhere.
index, _ = client.kv.get("app/a")
writer = threading.Timer(0.2, lambda: consul.Consul(port=int(sys.argv[1])).kv.put("app/a", "3"))
writer.start()
later, entry = client.kv.get("app/a", index=index, wait="10s")
writer.join()
assert entry["Value"] == b"3" and int(later) > int(index), (entry, later)

# Sessions and locks, with what Patroni sends.
session = client.session.create("leader", lock_delay=0.001, behavior="delete", ttl=10, checks=[])
other = client.session.create("other", node=node)
assert client.kv.put("app/leader", "me", acquire=session) is True
assert client.kv.put("app/leader", "you", acquire=other) is False
assert client.kv.get("app/leader")[1]["Session"] == session
assert client.session.renew(session)["ID"] == session
assert {it["ID"] for it in client.session.list()[1]} >= {session, other}
assert client.session.info(session)[1]["Behavior"] == "delete"
assert {it["ID"] for it in client.session.node(node)[1]} >= {session, other}
assert client.session.destroy(session) is True
assert client.kv.get("app/leader")[1] is None
try:
    client.session.create("short", ttl=10, checks=["none"])
    raise SystemExit("a session with a check that is not there was made")
except consul.ConsulException as error:
    assert "Missing check" in str(error), error
try:
    client.kv.put("app/leader", "x", acquire=session)
    raise SystemExit("a lock was acquired for a session that is gone")
except consul.ConsulException as error:
    assert "invalid session" in str(error), error

# All or nothing.
done = client.txn.put([{"KV": {"Verb": "set", "Key": "app/t", "Value": "dA=="}},
                       {"KV": {"Verb": "get", "Key": "app/t"}}])
assert done["Results"][1]["KV"]["Value"] == "dA==", done

# Events.
fired = client.event.fire("deploy", "now")
assert any(it["ID"] == fired["ID"] for it in client.event.list("deploy")[1])

assert client.kv.delete("app/", recurse=True) is True
assert client.kv.get("app/", recurse=True)[1] is None
print("py-consul agrees")
