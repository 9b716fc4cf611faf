// The official Go client of Consul against a cluster of Weft's: main.go asks the pages, entries.go
// writes every kind of config entry and reads it back.
//
//	go_client ADDRESS TOKEN NODE
package main

import (
	"bytes"
	"fmt"
	"os"
	"reflect"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"
)

var (
	client *api.Client
	node   string
)

func main() {
	config := api.DefaultConfig()
	config.Address, config.Token, node = os.Args[1], os.Args[2], os.Args[3]
	var err error
	client, err = api.NewClient(config)
	must(err)
	for _, step := range []struct {
		name string
		run  func()
	}{
		{"kv", kv}, {"sessions and locks", locks}, {"transactions", transactions},
		{"agent", agent}, {"catalog", catalog}, {"health", health}, {"acl", acls},
		{"intentions", intentions}, {"chains and certificates", connect},
		{"config entries", entries}, {"queries", queries}, {"events", events},
		{"coordinates", coordinates}, {"operator", operator}, {"snapshot", snapshot},
	} {
		began := time.Now()
		current = step.name
		step.run()
		fmt.Printf("%s: %d ms\n", step.name, time.Since(began).Milliseconds())
	}
	fmt.Println("Consul's Go client agrees")
}

// What is being asked, for the message of a failure.
var current string

func must(err error) {
	if err != nil {
		fail("%v", err)
	}
}

func check(holds bool, format string, args ...interface{}) {
	if !holds {
		fail(format, args...)
	}
}

func same(what string, got, want interface{}) {
	if !reflect.DeepEqual(got, want) {
		fail("%s: %#v, not %#v", what, got, want)
	}
}

func fail(format string, args ...interface{}) {
	fmt.Fprintf(os.Stderr, "%s: %s\n", current, fmt.Sprintf(format, args...))
	os.Exit(1)
}

func eventually(what string, holds func() bool) {
	for end := time.Now().Add(20 * time.Second); !holds(); time.Sleep(20 * time.Millisecond) {
		check(time.Now().Before(end), "not in time: %s", what)
	}
}

func refused(err error, text string) {
	check(err != nil && strings.Contains(err.Error(), text), "%v, not %q", err, text)
}

func kv() {
	store := client.KV()
	pair, meta, err := store.Get("go/none", nil)
	must(err)
	check(pair == nil && meta.LastIndex > 0 && meta.KnownLeader, "%v %v", pair, meta)
	_, err = store.Put(&api.KVPair{Key: "go/a", Value: []byte{0, 255}, Flags: 1 << 63}, nil)
	must(err)
	pair, meta, err = store.Get("go/a", &api.QueryOptions{RequireConsistent: true})
	must(err)
	same("value", pair.Value, []byte{0, 255})
	same("flags", pair.Flags, uint64(1<<63))
	done, _, err := store.CAS(&api.KVPair{Key: "go/a", Value: []byte("2"), ModifyIndex: 1}, nil)
	must(err)
	check(!done, "a write at another index")
	done, _, err = store.CAS(&api.KVPair{Key: "go/a", Value: []byte("2"), ModifyIndex: pair.ModifyIndex}, nil)
	must(err)
	check(done, "a write at its index")
	_, err = store.Put(&api.KVPair{Key: "go/b/c"}, nil)
	must(err)
	keys, _, err := store.Keys("go/", "/", &api.QueryOptions{AllowStale: true})
	must(err)
	check(len(keys) <= 2, "%v", keys)
	keys, _, err = store.Keys("go/", "/", nil)
	must(err)
	same("keys", keys, []string{"go/a", "go/b/"})
	pairs, meta, err := store.List("go/", nil)
	must(err)
	same("entries", len(pairs), 2)
	go func() {
		_, err := store.Put(&api.KVPair{Key: "go/late", Value: []byte("x")}, nil)
		must(err)
	}()
	later, newer, err := store.List("go/", &api.QueryOptions{WaitIndex: meta.LastIndex, WaitTime: 10 * time.Second})
	must(err)
	check(len(later) == 3 && newer.LastIndex > meta.LastIndex, "%d at %d", len(later), newer.LastIndex)
	done, _, err = store.DeleteCAS(&api.KVPair{Key: "go/a", ModifyIndex: 1}, nil)
	must(err)
	check(!done, "a removal at another index")
	_, err = store.DeleteTree("go/", nil)
	must(err)
	_, err = store.Put(&api.KVPair{Key: "go/big", Value: bytes.Repeat([]byte("x"), 600<<10)}, nil)
	refused(err, "Unexpected response code: 413")
}

func locks() {
	sessions := client.Session()
	id, _, err := sessions.Create(&api.SessionEntry{Name: "go", TTL: "10s", LockDelay: time.Millisecond,
		Behavior: api.SessionBehaviorDelete}, nil)
	must(err)
	info, _, err := sessions.Info(id, nil)
	must(err)
	check(info.Name == "go" && info.TTL == "10s" && info.Node == node, "%+v", info)
	same("lock delay", info.LockDelay, time.Millisecond)
	entry, _, err := sessions.Renew(id, nil)
	must(err)
	same("renewed", entry.ID, id)
	entry, _, err = sessions.Renew("11111111-2222-3333-4444-555555555555", nil)
	check(entry == nil && err == nil, "%v %v", entry, err)
	list, _, err := sessions.Node(node, nil)
	must(err)
	check(len(list) >= 1, "%v", list)
	_, err = sessions.Destroy(id, nil)
	must(err)
	info, _, err = sessions.Info(id, nil)
	check(info == nil && err == nil, "%v %v", info, err)

	first, err := client.LockOpts(&api.LockOptions{Key: "go/lock", Value: []byte("first"), LockDelay: time.Millisecond})
	must(err)
	lost, err := first.Lock(nil)
	must(err)
	second, err := client.LockOpts(&api.LockOptions{Key: "go/lock", LockTryOnce: true, LockWaitTime: 200 * time.Millisecond})
	must(err)
	held, err := second.Lock(nil)
	must(err)
	check(held == nil, "two hold the lock")
	must(first.Unlock())
	select {
	case <-lost:
	case <-time.After(5 * time.Second):
		fail("the holder does not learn that it let go")
	}
	held, err = second.Lock(nil)
	must(err)
	check(held != nil, "nobody holds the lock, and it is not had")
	must(second.Unlock())
	must(second.Destroy())

	semaphore, err := client.SemaphorePrefix("go/semaphore", 1)
	must(err)
	_, err = semaphore.Acquire(nil)
	must(err)
	must(semaphore.Release())
	must(semaphore.Destroy())
}

func transactions() {
	done, answer, _, err := client.Txn().Txn(api.TxnOps{
		{KV: &api.KVTxnOp{Verb: api.KVSet, Key: "go/t", Value: []byte("1")}},
		{KV: &api.KVTxnOp{Verb: api.KVGet, Key: "go/t"}},
		{Node: &api.NodeTxnOp{Verb: api.NodeSet, Node: api.Node{Node: "go-ext", Address: "10.6.6.1",
			Meta: map[string]string{"external-node": "true"}}}},
		{Service: &api.ServiceTxnOp{Verb: api.ServiceSet, Node: "go-ext",
			Service: api.AgentService{ID: "go-web-1", Service: "go-web", Port: 80, Tags: []string{"v1"}}}},
		{Check: &api.CheckTxnOp{Verb: api.CheckSet, Check: api.HealthCheck{Node: "go-ext",
			CheckID: "go-c", Name: "alive", Status: api.HealthPassing, ServiceID: "go-web-1",
			Definition: api.HealthCheckDefinition{IntervalDuration: 10 * time.Second}}}},
	}, nil)
	must(err)
	check(done, "%v", answer.Errors)
	same("read", answer.Results[1].KV.Value, []byte("1"))
	check(answer.Results[3].Service != nil, "%+v", answer.Results[3])
	same("interval", answer.Results[4].Check.Definition.IntervalDuration, 10*time.Second)
	done, answer, _, err = client.Txn().Txn(api.TxnOps{
		{KV: &api.KVTxnOp{Verb: api.KVCheckNotExists, Key: "go/t"}},
		{KV: &api.KVTxnOp{Verb: api.KVSet, Key: "go/u", Value: []byte("1")}},
	}, nil)
	must(err)
	check(!done && len(answer.Errors) == 1 && answer.Errors[0].OpIndex == 0, "%+v", answer)
	var ops api.KVTxnOps
	for i := 0; i < 128; i++ {
		ops = append(ops, &api.KVTxnOp{Verb: api.KVGetOrEmpty, Key: fmt.Sprintf("go/probe/%d", i)})
	}
	done, probe, _, err := client.KV().Txn(ops, nil)
	must(err)
	check(done && len(probe.Results) == 128, "%v", probe.Errors)
}

func agent() {
	agent := client.Agent()
	self, err := agent.Self()
	must(err)
	same("node", self["Config"]["NodeName"], node)
	name, err := agent.NodeName()
	must(err)
	same("node", name, node)
	must(agent.ServiceRegister(&api.AgentServiceRegistration{Name: "go-local", Port: 9000,
		Tags: []string{"a"}, Meta: map[string]string{"m": "1"},
		Weights: &api.AgentWeights{Passing: 3, Warning: 1},
		Check:   &api.AgentServiceCheck{CheckID: "go-ttl", TTL: "30s", Status: api.HealthPassing},
		Connect: &api.AgentServiceConnect{SidecarService: &api.AgentServiceRegistration{Port: 21900,
			Proxy: &api.AgentServiceConnectProxyConfig{Upstreams: []api.Upstream{
				{DestinationName: "go-web", LocalBindPort: 9191}}}}}}))
	must(agent.UpdateTTL("go-ttl", "still", api.HealthWarning))
	services, err := agent.ServicesWithFilter(`Service == "go-local"`)
	must(err)
	same("services", len(services), 1)
	service, meta, err := agent.Service("go-local-sidecar-proxy", nil)
	must(err)
	check(meta.LastContentHash != "" && service.Proxy.Upstreams[0].DestinationName == "go-web", "%+v", service)
	checks, err := agent.Checks()
	must(err)
	check(checks["go-ttl"] != nil && checks["go-ttl"].Output == "still", "%+v", checks["go-ttl"])
	status, infos, err := agent.AgentHealthServiceByName("go-local")
	must(err)
	check(status == api.HealthWarning && len(infos) == 1, "%s %d", status, len(infos))
	must(agent.EnableServiceMaintenance("go-local", "because"))
	must(agent.DisableServiceMaintenance("go-local"))
	members, err := agent.Members(false)
	must(err)
	check(len(members) >= 1, "%v", members)
	leaf, _, err := agent.ConnectCALeaf("go-local", nil)
	must(err)
	check(strings.Contains(leaf.ServiceURI, "/svc/go-local") && leaf.PrivateKeyPEM != "", "%+v", leaf.ServiceURI)
	roots, _, err := agent.ConnectCARoots(nil)
	must(err)
	check(len(roots.Roots) == 1 && roots.ActiveRootID == roots.Roots[0].ID, "%+v", roots)
	eventually("it is in the catalog", func() bool {
		found, _, err := client.Catalog().Service("go-local", "a", nil)
		must(err)
		return len(found) == 1 && found[0].ServiceWeights.Passing == 3
	})
	must(agent.ServiceDeregister("go-local"))
	refused(agent.ServiceDeregister("go-local"), "Unexpected response code: 404")
}

func catalog() {
	catalog := client.Catalog()
	datacenters, err := catalog.Datacenters()
	must(err)
	same("datacenters", datacenters, []string{"dc1"})
	_, err = catalog.Register(&api.CatalogRegistration{Node: "go-ext", Address: "10.6.6.1",
		NodeMeta:        map[string]string{"external-node": "true"},
		TaggedAddresses: map[string]string{"wan": "192.0.2.1"},
		Service: &api.AgentService{ID: "go-db-1", Service: "go-db", Port: 5432,
			TaggedAddresses: map[string]api.ServiceAddress{"wan": {Address: "192.0.2.1", Port: 15432}},
			Weights:         api.AgentWeights{Passing: 2, Warning: 1}},
		Checks: api.HealthChecks{{Node: "go-ext", CheckID: "go-db-c", Name: "alive", Status: "critical", ServiceID: "go-db-1"}}}, nil)
	must(err)
	nodes, _, err := catalog.Nodes(&api.QueryOptions{NodeMeta: map[string]string{"external-node": "true"}, Filter: `Node == "go-ext"`})
	must(err)
	check(len(nodes) == 1 && nodes[0].TaggedAddresses["wan"] == "192.0.2.1", "%+v", nodes)
	services, _, err := catalog.Services(nil)
	must(err)
	same("tags", services["go-web"], []string{"v1"})
	found, _, err := catalog.Service("go-db", "", nil)
	must(err)
	check(len(found) == 1 && found[0].ServiceTaggedAddresses["wan"].Port == 15432, "%+v", found)
	on, _, err := catalog.Node("go-ext", nil)
	must(err)
	same("services", len(on.Services), 2)
	list, _, err := catalog.NodeServiceList("go-ext", nil)
	must(err)
	same("services", len(list.Services), 2)
	none, _, err := catalog.Node("go-none", nil)
	check(none == nil && err == nil, "%v %v", none, err)
	_, err = catalog.Deregister(&api.CatalogDeregistration{Node: "go-ext", ServiceID: "go-db-1"}, nil)
	must(err)
}

func health() {
	health := client.Health()
	_, meta, err := health.Service("go-web", "", true, nil)
	must(err)
	woken := make(chan int)
	go func() {
		entries, _, err := health.Service("go-web", "", true, &api.QueryOptions{WaitIndex: meta.LastIndex, WaitTime: 15 * time.Second})
		must(err)
		woken <- len(entries)
	}()
	// A service beside it wakes nobody.
	_, err = client.Catalog().Register(&api.CatalogRegistration{Node: "go-ext", Address: "10.6.6.1", SkipNodeUpdate: true,
		Service: &api.AgentService{ID: "go-other", Service: "go-other"}}, nil)
	must(err)
	select {
	case <-woken:
		fail("woken by another service")
	case <-time.After(300 * time.Millisecond):
	}
	_, err = client.Catalog().Register(&api.CatalogRegistration{Node: "go-ext", Address: "10.6.6.1", SkipNodeUpdate: true,
		Service: &api.AgentService{ID: "go-web-2", Service: "go-web", Port: 81}}, nil)
	must(err)
	same("instances", <-woken, 2)
	checks, _, err := health.Checks("go-web", nil)
	must(err)
	check(len(checks) == 1 && checks[0].CheckID == "go-c", "%+v", checks)
	same("all", checks.AggregatedStatus(), api.HealthPassing)
	checks, _, err = health.Node(node, nil)
	must(err)
	check(len(checks) >= 1, "%+v", checks)
	_, _, err = health.State(api.HealthAny, &api.QueryOptions{Near: "_agent"})
	must(err)
	_, _, err = health.ServiceMultipleTags("go-web", []string{"v1", "none"}, false, nil)
	must(err)
	_, _, err = health.Connect("go-web", "", false, nil)
	must(err)
	_, meta, err = health.Service("go-web", "", false, &api.QueryOptions{UseCache: true, MaxAge: time.Minute})
	must(err)
}

func queries() {
	queries := client.PreparedQuery()
	definition := &api.PreparedQueryDefinition{Name: "go-q", Service: api.ServiceQuery{Service: "go-web",
		OnlyPassing: true, Near: "_agent", Tags: []string{"v1"},
		Failover: api.QueryFailoverOptions{NearestN: 2, Datacenters: []string{"dc2"}}},
		DNS: api.QueryDNSOptions{TTL: "10s"}}
	id, _, err := queries.Create(definition, nil)
	must(err)
	found, _, err := queries.Get(id, nil)
	must(err)
	check(len(found) == 1 && found[0].Service.Failover.NearestN == 2 && found[0].DNS.TTL == "10s", "%+v", found)
	answer, _, err := queries.Execute("go-q", &api.QueryOptions{Near: "go-ext"})
	must(err)
	check(len(answer.Nodes) == 1 && answer.Nodes[0].Service.ID == "go-web-1" && answer.Datacenter == "dc1", "%+v", answer)
	definition.ID = id
	definition.Service.Tags = nil
	_, err = queries.Update(definition, nil)
	must(err)
	list, _, err := queries.List(nil)
	must(err)
	same("queries", len(list), 1)
	_, err = queries.Delete(id, nil)
	must(err)
	_, _, err = queries.Execute("go-q", nil)
	refused(err, "Unexpected response code: 404")
}

func events() {
	id, _, err := client.Event().Fire(&api.UserEvent{Name: "go-deploy", Payload: []byte("now")}, nil)
	must(err)
	eventually("the event is told", func() bool {
		list, _, err := client.Event().List("go-deploy", nil)
		must(err)
		return len(list) == 1 && list[0].ID == id && string(list[0].Payload) == "now"
	})
}

func coordinates() {
	_, err := client.Coordinate().Datacenters()
	must(err)
	_, _, err = client.Coordinate().Nodes(nil)
	must(err)
}

func operator() {
	operator := client.Operator()
	raft, err := operator.RaftGetConfiguration(nil)
	must(err)
	leaders := 0
	for _, server := range raft.Servers {
		if server.Leader {
			leaders++
		}
	}
	check(len(raft.Servers) == 3 && leaders == 1, "%+v", raft)
	config, err := operator.AutopilotGetConfiguration(nil)
	must(err)
	config.MaxTrailingLogs++
	done, err := operator.AutopilotCASConfiguration(config, nil)
	must(err)
	check(done, "the index of the configuration is its own")
	eventually("all servers are healthy", func() bool {
		health, err := operator.AutopilotServerHealth(nil)
		return err == nil && health.Healthy && len(health.Servers) == 3
	})
	state, err := operator.AutopilotState(nil)
	must(err)
	check(len(state.Voters) == 3 && state.Leader != "", "%+v", state)
	usage, _, err := operator.Usage(nil)
	must(err)
	check(usage.Usage["dc1"].Nodes >= 1, "%+v", usage)
	refused(operator.RaftRemovePeerByID("none", nil), "Unexpected response code")
	leader, err := client.Status().Leader()
	must(err)
	peers, err := client.Status().Peers()
	must(err)
	check(leader != "" && len(peers) == 3, "%s %v", leader, peers)
}

func snapshot() {
	saved, _, err := client.Snapshot().Save(nil)
	must(err)
	var archive bytes.Buffer
	_, err = archive.ReadFrom(saved)
	must(err)
	must(saved.Close())
	_, err = client.KV().Put(&api.KVPair{Key: "go/after", Value: []byte("x")}, nil)
	must(err)
	must(client.Snapshot().Restore(nil, bytes.NewReader(archive.Bytes())))
	pair, _, err := client.KV().Get("go/after", nil)
	must(err)
	check(pair == nil, "it was written after the snapshot")
	refused(client.Snapshot().Restore(nil, strings.NewReader("this is no archive")), "Unexpected response code")
}
