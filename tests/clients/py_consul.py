"""A cluster of Weft's as py-consul has it, which Patroni builds on: py_consul.py PORT [TOKEN NODE]."""
import sys
import threading

import consul

settings = {"host": "127.0.0.1", "port": int(sys.argv[1]), "token": (sys.argv[2:] or [None])[0]}
client = consul.Consul(**settings)
# It shows no token where it asks the agent for itself.
node = sys.argv[3] if len(sys.argv) > 3 else client.agent.self()["Member"]["Name"]

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
writer = threading.Timer(0.2, lambda: consul.Consul(**settings).kv.put("app/a", "3"))
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

# All or nothing. This client shows no token here.
steps = [{"KV": {"Verb": "set", "Key": "app/t", "Value": "dA=="}},
         {"KV": {"Verb": "get", "Key": "app/t"}}]
if settings["token"]:
    try:
        client.txn.put(steps)
        raise SystemExit("nobody wrote in a transaction")
    except consul.ConsulException as error:
        assert "anonymous token lacks permission 'key:write' on" in str(error), error
else:
    done = client.txn.put(steps)
    assert done["Results"][1]["KV"]["Value"] == "dA==", done

# Events.
fired = client.event.fire("deploy", "now")
# Nor where it lists them: nobody sees none of them.
seen = any(it["ID"] == fired["ID"] for it in client.event.list("deploy")[1])
assert seen is (not settings["token"])

# What the agent has, and what of it the catalog says.
index, none = client.health.service("py-web")
assert none == [], none
assert client.agent.service.register(
    "py-web", service_id="py-web-1", address="10.8.8.1", port=80, tags=["v1"], meta={"a": "b"},
    weights={"passing": 3, "warning": 1}, check=consul.Check.ttl("30s")) is True
assert client.agent.services()["py-web-1"]["Meta"] == {"a": "b"}
index, found = client.health.service("py-web", index=index, wait="10s")
assert found[0]["Service"]["Weights"] == {"Passing": 3, "Warning": 1}, found
assert client.health.service("py-web", passing=True)[1] == []
for say, status in [("pass", "passing"), ("warn", "warning"), ("fail", "critical")]:
    assert getattr(client.agent.check, f"ttl_{say}")("service:py-web-1", notes=say) is True
    while True:
        index, [check] = client.health.checks("py-web", index=index, wait="10s")
        if check["Status"] == status:
            break
    assert check["Output"] == say, check
assert client.agent.checks()["service:py-web-1"]["Status"] == "critical"
assert client.agent.check.register("py-alive", check_id="py-c", check=consul.Check.ttl("10s")) is True
assert client.agent.check.deregister("py-c") is True
for enable, known in [(True, True), ("false", False)]:
    assert client.agent.service.maintenance("py-web-1", enable, reason="because") is True
    assert ("_service_maintenance:py-web-1" in client.agent.checks()) == known
    assert client.agent.maintenance(enable, reason="because") is True
    assert ("_node_maintenance" in client.agent.checks()) == known
assert client.catalog.services()[1]["py-web"] == ["v1"]
assert client.catalog.service("py-web", tag="v1")[1][0]["ServiceAddress"] == "10.8.8.1"
assert [it["Node"] for it in client.health.node(node)[1]][0] == node
assert any(it["Node"] == node for it in client.catalog.nodes()[1])
assert client.agent.service.deregister("py-web-1") is True
assert client.catalog.register("py-ext", "10.8.8.2", service={"service": "py-db", "port": 5432},
                               check={"name": "alive", "status": "passing"}) is True
assert client.catalog.node("py-ext")[1]["Services"]["py-db"]["Port"] == 5432
assert [it["Name"] for it in client.health.state("passing")[1] if it["Node"] == "py-ext"] == ["alive"]
if not settings["token"]:
    # It shows no token here either.
    made = client.query.create("py-db", name="py-q", onlypassing=True, ttl="7s")
    assert client.query.execute("py-q")["Nodes"][0]["Node"]["Address"] == "10.8.8.2"
    assert client.query.delete(made["ID"]) is True
assert client.catalog.deregister("py-ext") is True
assert client.catalog.node("py-ext")[1] is None

# Config entries and intentions.
entry = {"Protocol": "http", "Meta": {"by": "py"}}
assert client.config.set("service-defaults", "py-web", entry) is True
kept = client.config.get("service-defaults", "py-web")
assert kept["Protocol"] == "http" and kept["Meta"] == {"by": "py"}, kept
assert client.config.set("service-defaults", "py-web", entry, cas=1) is False
assert client.config.set("service-defaults", "py-web", entry, cas=kept["ModifyIndex"]) is True
intentions = client.connect.intentions
assert intentions.upsert("py-shop", "py-web", action="allow", description="buys") is True
assert intentions.read("py-shop", "py-web")["Description"] == "buys"
assert intentions.check("py-shop", "py-web") is True
assert intentions.check("py-other", "py-web") is False
assert len(intentions.match("destination", "py-web")["py-web"]) == 1
assert intentions.delete("py-shop", "py-web") is True
assert client.config.delete("service-defaults", "py-web") is True

# Who may.
if settings["token"]:
    policy = client.acl.policy.create("py", description="reads", rules={"key_prefix": {"app/": {"policy": "read"}}})
    role = client.acl.role.create("py", policies_id=[policy["ID"]], service_identities=[{"ServiceName": "py-web"}])
    token = client.acl.token.create(roles_name=["py"], node_identities=[f"{node}:dc1"], description="py",
                                    expiration_ttl="1h")
    shown = client.acl.token.read(token["AccessorID"])
    assert shown["Roles"] == [{"ID": role["ID"], "Name": "py"}] and shown["ExpirationTime"], shown
    reader = consul.Consul(**{**settings, "token": token["SecretID"]})
    assert reader.kv.get("app/a")[1]["Value"] == b"3"
    try:
        reader.kv.put("app/a", "4")
        raise SystemExit("it wrote what it may read")
    except consul.ACLPermissionDenied as error:
        said = f"token with AccessorID '{token['AccessorID']}' lacks permission 'key:write' on"
        assert said in str(error), error
    assert reader.agent.service.register("py-web") is True
    assert reader.agent.service.deregister("py-web") is True
    assert client.acl.token.delete(token["AccessorID"]) is True
    assert client.acl.role.delete(role["ID"]) is True
    assert client.acl.policy.delete(policy["ID"]) is True
    try:
        reader.kv.get("app/a")
        raise SystemExit("a token that is gone reads")
    except consul.ACLPermissionDenied as error:
        assert "ACL not found" in str(error), error

assert client.kv.delete("app/", recurse=True) is True
assert client.kv.get("app/", recurse=True)[1] is None
print("py-consul agrees")
