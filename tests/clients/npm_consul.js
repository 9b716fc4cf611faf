// The npm client `consul` against a cluster of Weft's: node npm_consul.js PORT TOKEN
const assert = require("assert");
const Consul = require("consul");

const [port, token] = process.argv.slice(2);
const client = new Consul({ host: "127.0.0.1", port: Number(port), defaults: { token } });

async function main() {
  // Keys.
  assert.strictEqual(await client.kv.set("npm/a", "1"), true);
  const entry = await client.kv.get("npm/a");
  assert.strictEqual(entry.Value, "1");
  // The client makes undefined of false.
  assert.ok(!(await client.kv.set({ key: "npm/a", value: "2", cas: "1" })));
  assert.strictEqual(await client.kv.set({ key: "npm/a", value: "2", cas: entry.ModifyIndex, flags: 7 }), true);
  assert.deepStrictEqual(await client.kv.keys("npm/"), ["npm/a"]);
  assert.strictEqual(await client.kv.get("npm/none"), undefined);

  // Sessions and locks.
  const { ID: session } = await client.session.create({ name: "npm", ttl: "10s", lockdelay: "0s", behavior: "delete" });
  assert.strictEqual(await client.kv.set({ key: "npm/lock", value: "me", acquire: session }), true);
  assert.strictEqual((await client.session.get(session)).Name, "npm");
  assert.ok((await client.session.list()).some((it) => it.ID === session));
  assert.strictEqual((await client.session.renew(session))[0].ID, session);
  await client.session.destroy(session);
  assert.strictEqual(await client.kv.get("npm/lock"), undefined);

  // Transactions.
  const value = Buffer.from("3").toString("base64");
  const done = await client.transaction.create([{ KV: { Verb: "set", Key: "npm/t", Value: value } },
    { KV: { Verb: "get", Key: "npm/t" } }]);
  assert.strictEqual(done.Results[1].KV.Value, value);

  // The agent and the catalog.
  await client.agent.service.register({ name: "npm-web", port: 8080, tags: ["v1"], meta: { a: "b" },
    check: { ttl: "30s", status: "passing" } });
  assert.ok((await client.agent.services())["npm-web"]);
  await client.agent.check.warn({ id: "service:npm-web", note: "slow" });
  const watch = client.watch({ method: client.health.service, options: { service: "npm-web", passing: false }, backoffFactor: 100 });
  const found = await new Promise((resolve, reject) => {
    watch.on("change", (data) => data.length === 1 && data[0].Checks.some((it) => it.Status === "warning") && resolve(data));
    watch.on("error", reject);
  });
  watch.end();
  assert.strictEqual(found[0].Service.Port, 8080);
  assert.deepStrictEqual((await client.catalog.services())["npm-web"], ["v1"]);
  assert.strictEqual((await client.catalog.service.nodes("npm-web"))[0].ServiceMeta.a, "b");
  for (const enable of [true, false]) {
    await client.agent.service.maintenance({ id: "npm-web", enable, reason: "because" });
    assert.strictEqual("_service_maintenance:npm-web" in await client.agent.checks(), enable);
    await client.agent.maintenance({ enable, reason: "because" });
    assert.strictEqual("_node_maintenance" in await client.agent.checks(), enable);
  }
  await client.agent.check.register({ name: "npm-alive", id: "npm-c", ttl: "10s", notes: "of the host" });
  await client.agent.check.pass("npm-c");
  assert.strictEqual((await client.agent.checks())["npm-c"].Status, "passing");
  await client.agent.check.deregister("npm-c");
  await client.catalog.register({ node: "npm-ext", address: "10.9.9.1", service: { service: "npm-db", port: 5432 },
    check: { name: "alive", status: "passing", serviceid: "npm-db" } });
  assert.strictEqual((await client.health.service({ service: "npm-db", passing: true }))[0].Service.Port, 5432);
  assert.strictEqual((await client.health.checks("npm-db"))[0].Name, "alive");
  assert.strictEqual((await client.catalog.node.services("npm-ext")).Node.Address, "10.9.9.1");
  assert.deepStrictEqual(await client.catalog.datacenters(), ["dc1"]);
  assert.ok((await client.catalog.node.list()).length >= 1);
  assert.ok((await client.agent.members()).length >= 1);
  assert.ok((await client.health.state("any")).length >= 1);
  await client.agent.service.deregister("npm-web");

  // Queries, events, the servers.
  // A query takes the token as a part of itself: it is shown in a header of its own.
  const keeper = new Consul({ host: "127.0.0.1", port: Number(port), headers: { "x-consul-token": token } });
  const { ID: query } = await keeper.query.create({ name: "npm-q", service: { service: "npm-db", onlypassing: true },
    dns: { ttl: "7s" } });
  assert.deepStrictEqual((await client.query.list()).map((it) => it.Name), ["npm-q"]);
  assert.strictEqual((await client.query.execute("npm-q")).Nodes[0].Node.Node, "npm-ext");
  await client.query.destroy(query);
  await client.catalog.deregister("npm-ext");
  assert.ok(!(await client.catalog.node.services("npm-ext")));
  const fired = await client.event.fire("npm-deploy", "now");
  assert.ok((await client.event.list("npm-deploy")).some((it) => it.ID === fired.ID));
  assert.ok(await client.status.leader());
  assert.strictEqual((await client.status.peers()).length, 3);

  // What is refused says so.
  const stranger = new Consul({ host: "127.0.0.1", port: Number(port) });
  await assert.rejects(stranger.kv.set("npm/a", "1"), /forbidden/);
  assert.strictEqual(await client.kv.del({ key: "npm/", recurse: true }), true);
  console.log("npm's consul agrees");
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
