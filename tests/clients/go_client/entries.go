package main

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"
)

func acls() {
	acl := client.ACL()
	policy, _, err := acl.PolicyCreate(&api.ACLPolicy{Name: "go", Description: "of the client",
		Rules: `key_prefix "go/" { policy = "read" }`, Datacenters: []string{"dc1"}}, nil)
	must(err)
	read, _, err := acl.PolicyReadByName("go", nil)
	must(err)
	check(read.ID == policy.ID && read.Rules == policy.Rules && len(read.Hash) > 0, "%+v", read)
	none, _, err := acl.PolicyReadByName("go-none", nil)
	check(none == nil && err == nil, "%v %v", none, err)
	policy.Rules = `key_prefix "go/" { policy = "write" }`
	policy, _, err = acl.PolicyUpdate(policy, nil)
	must(err)
	role, _, err := acl.RoleCreate(&api.ACLRole{Name: "go", Policies: []*api.ACLLink{{Name: "go"}},
		ServiceIdentities: []*api.ACLServiceIdentity{{ServiceName: "go-web"}}}, nil)
	must(err)
	same("the link of a role", role.Policies[0].ID, policy.ID)
	token, _, err := acl.TokenCreate(&api.ACLToken{Description: "go", Roles: []*api.ACLLink{{ID: role.ID}},
		NodeIdentities: []*api.ACLNodeIdentity{{NodeName: "go-ext", Datacenter: "dc1"}},
		TemplatedPolicies: []*api.ACLTemplatedPolicy{{TemplateName: api.ACLTemplatedPolicyServiceName,
			TemplateVariables: &api.ACLTemplatedPolicyVariables{Name: "go-db"}}},
		ExpirationTTL: time.Hour}, nil)
	must(err)
	check(token.ExpirationTime != nil && !token.CreateTime.IsZero() && token.SecretID != "", "%+v", token)
	expanded, _, err := acl.TokenReadExpanded(token.AccessorID, nil)
	must(err)
	check(len(expanded.ExpandedPolicies) == 4 && len(expanded.ExpandedRoles) == 1, "%+v", expanded)
	same("default", expanded.AgentACLDefaultPolicy, "deny")
	own, _, err := acl.TokenReadSelf(&api.QueryOptions{Token: token.SecretID})
	must(err)
	same("the secret of who shows it", own.SecretID, token.SecretID)
	_, err = client.KV().Put(&api.KVPair{Key: "go/own", Value: []byte("1")}, &api.WriteOptions{Token: token.SecretID})
	must(err)
	_, err = client.KV().Put(&api.KVPair{Key: "else", Value: []byte("1")}, &api.WriteOptions{Token: token.SecretID})
	refused(err, "Unexpected response code: 403 (Permission denied: token with AccessorID '"+token.AccessorID+
		"' lacks permission 'key:write' on \"else\")")
	_, _, err = client.KV().Get("go/own", &api.QueryOptions{Token: "11111111-2222-3333-4444-555555555555"})
	refused(err, "ACL not found")
	list, _, err := acl.TokenListFiltered(api.ACLTokenFilterOptions{Role: role.ID}, nil)
	must(err)
	same("tokens of the role", len(list), 1)
	clone, _, err := acl.TokenClone(token.AccessorID, "copy", nil)
	must(err)
	same("roles of the copy", clone.Roles[0].ID, role.ID)
	clone.Description = "changed"
	_, _, err = acl.TokenUpdate(clone, nil)
	must(err)
	templates, _, err := acl.TemplatedPolicyList(nil)
	must(err)
	check(len(templates) >= 6, "%v", templates)
	preview, _, err := acl.TemplatedPolicyPreview(&api.ACLTemplatedPolicy{TemplateName: api.ACLTemplatedPolicyNodeName,
		TemplateVariables: &api.ACLTemplatedPolicyVariables{Name: "n"}}, nil)
	must(err)
	check(strings.Contains(preview.Rules, `node "n"`), "%+v", preview)
	_, _, publicKey := selfSigned()
	method, _, err := acl.AuthMethodCreate(&api.ACLAuthMethod{Name: "go", Type: "jwt", MaxTokenTTL: 5 * time.Minute,
		Config: map[string]interface{}{"JWTValidationPubKeys": []string{publicKey},
			"BoundIssuer": "go", "ClaimMappings": map[string]string{"service": "service"}}}, nil)
	must(err)
	same("lifetime", method.MaxTokenTTL, 5*time.Minute)
	rule, _, err := acl.BindingRuleCreate(&api.ACLBindingRule{AuthMethod: "go", Selector: `value.service == "go-web"`,
		BindType: api.BindingRuleBindTypeService, BindName: "${value.service}"}, nil)
	must(err)
	rules, _, err := acl.BindingRuleList("go", nil)
	must(err)
	check(len(rules) == 1 && rules[0].ID == rule.ID, "%+v", rules)
	_, _, err = acl.Login(&api.ACLLoginParams{AuthMethod: "go", BearerToken: "no.jwt.here"}, nil)
	refused(err, "Unexpected response code: 403")
	_, err = acl.AuthMethodDelete("go", nil)
	must(err)
	for _, token := range []string{token.AccessorID, clone.AccessorID} {
		_, err = acl.TokenDelete(token, nil)
		must(err)
	}
	_, err = acl.RoleDelete(role.ID, nil)
	must(err)
	_, err = acl.PolicyDelete(policy.ID, nil)
	must(err)
}

func intentions() {
	connect := client.Connect()
	_, err := connect.IntentionUpsert(&api.Intention{SourceName: "go-web", DestinationName: "go-db",
		Action: api.IntentionActionAllow, Description: "web calls db"}, nil)
	must(err)
	found, _, err := connect.IntentionGetExact("go-web", "go-db", nil)
	must(err)
	check(found.Action == api.IntentionActionAllow && found.Precedence == 9 && found.Description == "web calls db", "%+v", found)
	allowed, _, err := connect.IntentionCheck(&api.IntentionCheck{Source: "go-web", Destination: "go-db"}, nil)
	must(err)
	check(allowed, "it is allowed")
	allowed, _, err = connect.IntentionCheck(&api.IntentionCheck{Source: "go-other", Destination: "go-db"}, nil)
	must(err)
	check(!allowed, "nobody else is")
	matched, _, err := connect.IntentionMatch(&api.IntentionMatch{By: api.IntentionMatchDestination, Names: []string{"go-db", "go-none"}}, nil)
	must(err)
	check(len(matched["go-db"]) == 1, "%+v", matched)
	list, _, err := connect.Intentions(&api.QueryOptions{Filter: `DestinationName == "go-db"`})
	must(err)
	same("intentions", len(list), 1)
	_, err = connect.IntentionDeleteExact("go-web", "go-db", nil)
	must(err)
	found, _, err = connect.IntentionGetExact("go-web", "go-db", nil)
	check(found == nil && err == nil, "%v %v", found, err)
}

func connect() {
	roots, _, err := client.Connect().CARoots(nil)
	must(err)
	check(len(roots.Roots) == 1 && strings.Contains(roots.TrustDomain, "."), "%+v", roots.TrustDomain)
	config, _, err := client.Connect().CAGetConfig(nil)
	must(err)
	same("provider", config.Provider, "consul")
	chain, _, err := client.DiscoveryChain().Get("go-web", nil, nil)
	must(err)
	check(chain.Chain.Protocol == "tcp" && chain.Chain.StartNode != "" && len(chain.Chain.Targets) == 1, "%+v", chain.Chain)
	chain, _, err = client.DiscoveryChain().Get("go-web", &api.DiscoveryChainOptions{OverrideProtocol: "http"}, nil)
	must(err)
	same("protocol", chain.Chain.Protocol, "http")
}

// Writes each kind of entry with every field that is taken, and reads the same back.
func entries() {
	for _, entry := range []api.ConfigEntry{proxyDefaults(), serviceDefaults("go-api"), external(),
		serviceDefaults("go-v2"), serviceDefaults("go-old"), resolver(), redirect(), splitter(), router(), source(), mesh(), exported(), ingress(), terminating(),
		apiGateway(), certificate(), httpRoute(), tcpRoute(), provider()} {
		roundTrip(entry)
	}
	config := client.ConfigEntries()
	list, _, err := config.List(api.ServiceDefaults, nil)
	must(err)
	check(len(list) == 4, "%d entries", len(list))
	entry, _, err := config.Get(api.ServiceDefaults, "go-api", nil)
	must(err)
	done, _, err := config.CAS(serviceDefaults("go-api"), 1, nil)
	must(err)
	check(!done, "a write at another index")
	done, _, err = config.DeleteCAS(api.ServiceDefaults, "go-v2", 1, nil)
	must(err)
	check(!done, "a removal at another index")
	done, _, err = config.CAS(serviceDefaults("go-api"), entry.GetModifyIndex(), nil)
	must(err)
	check(done, "a write at its index")
	_, _, err = config.Get(api.ServiceDefaults, "go-none", nil)
	refused(err, "Unexpected response code: 404")
	_, err = config.Delete(api.ServiceDefaults, "go-api", nil)
	refused(err, "Unexpected response code")
	for _, kind := range []string{api.HTTPRoute, api.TCPRoute, api.APIGateway, api.InlineCertificate, api.JWTProvider,
		api.TerminatingGateway, api.IngressGateway, api.ServiceRouter, api.ServiceSplitter, api.ServiceIntentions,
		api.ServiceResolver, api.ServiceDefaults, api.ExportedServices, api.MeshConfig, api.ProxyDefaults} {
		list, _, err := config.List(kind, nil)
		must(err)
		check(len(list) > 0, "no %s", kind)
		// The last first: the redirect before what it leads to.
		for at := len(list) - 1; at >= 0; at-- {
			_, err := config.Delete(kind, list[at].GetName(), nil)
			must(err)
		}
	}
}

func roundTrip(entry api.ConfigEntry) {
	_, _, err := client.ConfigEntries().Set(entry, nil)
	must(err)
	found, meta, err := client.ConfigEntries().Get(entry.GetKind(), entry.GetName(), nil)
	must(err)
	check(found.GetModifyIndex() > 0 && meta.LastIndex > 0, "%s has no index", entry.GetKind())
	same(entry.GetKind(), fields(found), fields(entry))
}

// The fields of an entry that a writer gives.
func fields(entry api.ConfigEntry) map[string]interface{} {
	text, err := json.Marshal(entry)
	must(err)
	var fields map[string]interface{}
	must(json.Unmarshal(text, &fields))
	// A key is never shown.
	for _, own := range []string{"CreateIndex", "ModifyIndex", "Status", "PrivateKey"} {
		delete(fields, own)
	}
	return fields
}
