package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"time"

	"github.com/hashicorp/consul/api"
)

var meta = map[string]string{"owner": "go"}

func some[T any](value T) *T { return &value }

func passive() *api.PassiveHealthCheck {
	return &api.PassiveHealthCheck{Interval: 10 * time.Second, MaxFailures: 5, EnforcingConsecutive5xx: some(uint32(90)),
		MaxEjectionPercent: some(uint32(50)), BaseEjectionTime: some(20 * time.Second)}
}

func headers() *api.HTTPHeaderModifiers {
	return &api.HTTPHeaderModifiers{Add: map[string]string{"x-add": "1"}, Set: map[string]string{"x-set": "2"}, Remove: []string{"x-gone"}}
}

func proxyDefaults() api.ConfigEntry {
	return &api.ProxyConfigEntry{Kind: api.ProxyDefaults, Name: "global", Meta: meta, Mode: api.ProxyModeTransparent,
		TransparentProxy: &api.TransparentProxyConfig{OutboundListenerPort: 15001, DialedDirectly: true},
		Config:           map[string]interface{}{"local_idle_timeout_ms": 1000.0},
		MeshGateway:      api.MeshGatewayConfig{Mode: api.MeshGatewayModeLocal},
		Expose:           expose(),
		AccessLogs: &api.AccessLogsConfig{Enabled: true, DisableListenerLogs: true, Type: api.FileLogSinkType,
			Path: "/var/log/go", TextFormat: "%START_TIME%"},
		FailoverPolicy:       &api.ServiceResolverFailoverPolicy{Mode: "sequential"},
		PrioritizeByLocality: &api.ServiceResolverPrioritizeByLocality{Mode: "failover"}}
}

func expose() api.ExposeConfig {
	return api.ExposeConfig{Checks: true, Paths: []api.ExposePath{{ListenerPort: 21500, Path: "/healthz", LocalPathPort: 8080, Protocol: "http2"}}}
}

func upstream(name string) *api.UpstreamConfig {
	return &api.UpstreamConfig{Name: name, Protocol: "http", ConnectTimeoutMs: 1500,
		Limits:             &api.UpstreamLimits{MaxConnections: some(10), MaxPendingRequests: some(20), MaxConcurrentRequests: some(30)},
		PassiveHealthCheck: passive(), MeshGateway: api.MeshGatewayConfig{Mode: api.MeshGatewayModeRemote},
		BalanceOutboundConnections: "exact_balance"}
}

func serviceDefaults(name string) api.ConfigEntry {
	return &api.ServiceConfigEntry{Kind: api.ServiceDefaults, Name: name, Protocol: "http", Meta: meta,
		Mode: api.ProxyModeDirect, TransparentProxy: &api.TransparentProxyConfig{DialedDirectly: true},
		MutualTLSMode: api.MutualTLSModeStrict, MeshGateway: api.MeshGatewayConfig{Mode: api.MeshGatewayModeNone}, Expose: expose(),
		UpstreamConfig:        &api.UpstreamConfiguration{Defaults: upstream(""), Overrides: []*api.UpstreamConfig{upstream("go-db")}},
		MaxInboundConnections: 100, LocalConnectTimeoutMs: 200, LocalRequestTimeoutMs: 300, BalanceInboundConnections: "exact_balance"}
}

func external() api.ConfigEntry {
	return &api.ServiceConfigEntry{Kind: api.ServiceDefaults, Name: "go-external", Protocol: "tcp",
		ExternalSNI: "db.example.com",
		Destination: &api.DestinationConfig{Addresses: []string{"db.example.com", "192.0.2.9"}, Port: 5432}}
}

func resolver() api.ConfigEntry {
	return &api.ServiceResolverConfigEntry{Kind: api.ServiceResolver, Name: "go-api", Meta: meta, DefaultSubset: "v1",
		Subsets: map[string]api.ServiceResolverSubset{"v1": {Filter: "Service.Meta.version == v1", OnlyPassing: true},
			"v2": {Filter: "Service.Meta.version == v2"}},
		Failover: map[string]api.ServiceResolverFailover{
			"v1": {Service: "go-v2", Policy: &api.ServiceResolverFailoverPolicy{Mode: "order-by-locality", Regions: []string{"a"}}},
			"v2": {Targets: []api.ServiceResolverFailoverTarget{{Service: "go-v2"}, {ServiceSubset: "v1"}}},
			"*":  {Datacenters: []string{"dc2"}}},
		ConnectTimeout: 3 * time.Second, RequestTimeout: 90 * time.Second,
		PrioritizeByLocality: &api.ServiceResolverPrioritizeByLocality{Mode: "failover"},
		LoadBalancer: &api.LoadBalancer{Policy: "ring_hash",
			RingHashConfig: &api.RingHashConfig{MinimumRingSize: 1024, MaximumRingSize: 4096},
			HashPolicies: []api.HashPolicy{{Field: "header", FieldValue: "x-user", Terminal: true}, {SourceIP: true},
				{Field: "cookie", FieldValue: "who", CookieConfig: &api.CookieConfig{TTL: time.Minute, Path: "/"}}}}}
}

func redirect() api.ConfigEntry {
	return &api.ServiceResolverConfigEntry{Kind: api.ServiceResolver, Name: "go-old", Redirect: &api.ServiceResolverRedirect{Service: "go-api", ServiceSubset: "v2"}}
}

func splitter() api.ConfigEntry {
	return &api.ServiceSplitterConfigEntry{Kind: api.ServiceSplitter, Name: "go-api", Meta: meta, Splits: []api.ServiceSplit{
		{Weight: 90.5, ServiceSubset: "v1", RequestHeaders: headers(), ResponseHeaders: headers()}, {Weight: 9.5, Service: "go-v2"}}}
}

func router() api.ConfigEntry {
	return &api.ServiceRouterConfigEntry{Kind: api.ServiceRouter, Name: "go-api", Meta: meta, Routes: []api.ServiceRoute{
		{Match: &api.ServiceRouteMatch{HTTP: &api.ServiceRouteHTTPMatch{PathPrefix: "/v2", CaseInsensitive: true,
			Header: []api.ServiceRouteHTTPMatchHeader{{Name: "x-a", Present: true}, {Name: "x-b", Exact: "b", Invert: true},
				{Name: "x-c", Prefix: "c"}, {Name: "x-d", Suffix: "d"}, {Name: "x-e", Regex: "^e"}},
			QueryParam: []api.ServiceRouteHTTPMatchQueryParam{{Name: "q", Present: true}, {Name: "r", Exact: "1"}, {Name: "s", Regex: "2"}},
			Methods:    []string{"GET", "PUT"}}},
			Destination: &api.ServiceRouteDestination{Service: "go-v2", PrefixRewrite: "/", RequestTimeout: 10 * time.Second,
				IdleTimeout: time.Minute, NumRetries: 3, RetryOnConnectFailure: true, RetryOnStatusCodes: []uint32{502, 503},
				RetryOn: []string{"reset"}, RequestHeaders: headers(), ResponseHeaders: headers()}},
		{Match: &api.ServiceRouteMatch{HTTP: &api.ServiceRouteHTTPMatch{PathExact: "/one"}}, Destination: &api.ServiceRouteDestination{ServiceSubset: "v2"}},
		{Match: &api.ServiceRouteMatch{HTTP: &api.ServiceRouteHTTPMatch{PathRegex: "/[0-9]+"}}}}}
}

func source() api.ConfigEntry {
	return &api.ServiceIntentionsConfigEntry{Kind: api.ServiceIntentions, Name: "go-api", Meta: meta, Sources: []*api.SourceIntention{
		{Name: "go-web", Action: api.IntentionActionAllow, Precedence: 9, Type: api.IntentionSourceConsul, Description: "web"},
		{Name: "*", Action: api.IntentionActionDeny, Precedence: 8, Type: api.IntentionSourceConsul}}}
}

func mesh() api.ConfigEntry {
	versions := &api.MeshDirectionalTLSConfig{TLSMinVersion: "TLSv1_3", TLSMaxVersion: "TLSv1_3"}
	return &api.MeshConfigEntry{Meta: meta, TransparentProxy: api.TransparentProxyMeshConfig{MeshDestinationsOnly: true},
		TLS:     &api.MeshTLSConfig{Incoming: versions, Outgoing: versions},
		HTTP:    &api.MeshHTTPConfig{SanitizeXForwardedClientCert: true},
		Peering: &api.PeeringMeshConfig{PeerThroughMeshGateways: true}}
}

func exported() api.ConfigEntry {
	return &api.ExportedServicesConfigEntry{Name: "default", Meta: meta, Services: []api.ExportedService{
		{Name: "go-api", Consumers: []api.ServiceConsumer{{Peer: "east"}, {Peer: "west"}}}}}
}

func ingress() api.ConfigEntry {
	return &api.IngressGatewayConfigEntry{Kind: api.IngressGateway, Name: "go-ingress", Meta: meta,
		TLS: api.GatewayTLSConfig{Enabled: true, TLSMinVersion: "TLSv1_2", TLSMaxVersion: "TLSv1_3",
			CipherSuites: []string{"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"}},
		Defaults: &api.IngressServiceConfig{MaxConnections: some(uint32(1)), MaxPendingRequests: some(uint32(2)),
			MaxConcurrentRequests: some(uint32(3)), PassiveHealthCheck: passive()},
		Listeners: []api.IngressListener{
			{Port: 8080, Protocol: "http", Services: []api.IngressService{{Name: "go-api", Hosts: []string{"api.example.com"},
				RequestHeaders: headers(), ResponseHeaders: headers(), MaxConnections: some(uint32(4)),
				MaxPendingRequests: some(uint32(5)), MaxConcurrentRequests: some(uint32(6)), PassiveHealthCheck: passive()}}},
			{Port: 9090, Protocol: "tcp", TLS: &api.GatewayTLSConfig{Enabled: true}, Services: []api.IngressService{{Name: "go-external"}}}}}
}

func terminating() api.ConfigEntry {
	return &api.TerminatingGatewayConfigEntry{Kind: api.TerminatingGateway, Name: "go-terminating", Meta: meta, Services: []api.LinkedService{
		{Name: "go-legacy", CAFile: "/etc/ca.pem", CertFile: "/etc/cert.pem", KeyFile: "/etc/key.pem", SNI: "legacy.example.com"}, {Name: "*"}}}
}

func apiGateway() api.ConfigEntry {
	return &api.APIGatewayConfigEntry{Kind: api.APIGateway, Name: "go-gateway", Meta: meta, Listeners: []api.APIGatewayListener{
		{Name: "https", Hostname: "*.example.com", Port: 8443, Protocol: "http", TLS: api.APIGatewayTLSConfiguration{
			Certificates: []api.ResourceReference{{Kind: api.InlineCertificate, Name: "go-certificate"}},
			MinVersion:   "TLSv1_2", MaxVersion: "TLSv1_3", CipherSuites: []string{"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"}}},
		{Name: "tcp", Port: 9443, Protocol: "tcp"}}}
}

func certificate() api.ConfigEntry {
	certificate, key, _ := selfSigned()
	return &api.InlineCertificateConfigEntry{Kind: api.InlineCertificate, Name: "go-certificate", Meta: meta,
		Certificate: certificate, PrivateKey: key}
}

func httpRoute() api.ConfigEntry {
	change := api.HTTPHeaderFilter{Add: map[string]string{"x-add": "1"}, Remove: []string{"x-gone"}, Set: map[string]string{"x-set": "2"}}
	filters := api.HTTPFilters{Headers: []api.HTTPHeaderFilter{change}, URLRewrite: &api.URLRewrite{Path: "/new"},
		RetryFilter:   &api.RetryFilter{NumRetries: 2, RetryOn: []string{"reset"}, RetryOnStatusCodes: []uint32{503}, RetryOnConnectFailure: true},
		TimeoutFilter: &api.TimeoutFilter{RequestTimeout: time.Second, IdleTimeout: time.Minute}}
	back := api.HTTPResponseFilters{Headers: []api.HTTPHeaderFilter{change}}
	return &api.HTTPRouteConfigEntry{Kind: api.HTTPRoute, Name: "go-route", Meta: meta, Hostnames: []string{"www.example.com"},
		Parents: []api.ResourceReference{{Kind: api.APIGateway, Name: "go-gateway", SectionName: "https"}},
		Rules: []api.HTTPRouteRule{{Filters: filters, ResponseFilters: back, Matches: []api.HTTPMatch{{
			Headers: []api.HTTPHeaderMatch{{Match: api.HTTPHeaderMatchExact, Name: "x-a", Value: "a"}, {Match: api.HTTPHeaderMatchPresent, Name: "x-b"}},
			Method:  api.HTTPMatchMethodGet, Path: api.HTTPPathMatch{Match: api.HTTPPathMatchPrefix, Value: "/api"},
			Query: []api.HTTPQueryMatch{{Match: api.HTTPQueryMatchRegularExpression, Name: "q", Value: "^1"}}}},
			Services: []api.HTTPService{{Name: "go-api", Weight: 2, Filters: filters, ResponseFilters: back}}}}}
}

func tcpRoute() api.ConfigEntry {
	return &api.TCPRouteConfigEntry{Kind: api.TCPRoute, Name: "go-tcp", Meta: meta,
		Parents:  []api.ResourceReference{{Kind: api.APIGateway, Name: "go-gateway", SectionName: "tcp"}},
		Services: []api.TCPService{{Name: "go-external"}}}
}

func provider() api.ConfigEntry {
	return &api.JWTProviderConfigEntry{Kind: api.JWTProvider, Name: "go-accounts", Meta: meta, Issuer: "https://accounts.example.com",
		Audiences: []string{"go"}, ClockSkewSeconds: 20, CacheConfig: &api.JWTCacheConfig{Size: 15},
		Locations: []*api.JWTLocation{{Header: &api.JWTLocationHeader{Name: "Authorization", ValuePrefix: "Bearer ", Forward: true}},
			{QueryParam: &api.JWTLocationQueryParam{Name: "token"}}, {Cookie: &api.JWTLocationCookie{Name: "session"}}},
		Forwarding: &api.JWTForwardingConfig{HeaderName: "x-payload", PadForwardPayloadHeader: true},
		JSONWebKeySet: &api.JSONWebKeySet{Remote: &api.RemoteJWKS{URI: "https://accounts.example.com/keys", RequestTimeoutMs: 500,
			CacheDuration: time.Minute, FetchAsynchronously: true,
			RetryPolicy: &api.JWKSRetryPolicy{NumRetries: 3, RetryPolicyBackOff: &api.RetryPolicyBackOff{BaseInterval: time.Second, MaxInterval: 10 * time.Second}},
			JWKSCluster: &api.JWKSCluster{DiscoveryType: api.DiscoveryTypeStrictDNS, ConnectTimeout: 5 * time.Second,
				TLSCertificates: &api.JWKSTLSCertificate{TrustedCA: &api.JWKSTLSCertTrustedCA{Filename: "/etc/ca.pem"}}}}}}
}

// Makes a certificate under nobody's authority: itself, its private key, its public key.
func selfSigned() (string, string, string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"www.example.com"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	must(err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	must(err)
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	must(err)
	text := func(kind string, bytes []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: bytes}))
	}
	return text("CERTIFICATE", certificate), text("PRIVATE KEY", private), text("PUBLIC KEY", public)
}
