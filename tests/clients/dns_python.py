"""The names of a mesh as dnspython reads them: over UDP and TCP, with EDNS, forwards and back."""
import sys

import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import dns.resolver
import dns.reversename

HOST, PORT = "127.0.0.1", int(sys.argv[1])


def ask(name, kind, **options):
    query = dns.message.make_query(name, kind, **options)
    over_udp = dns.query.udp(query, HOST, port=PORT, timeout=10)
    over_tcp = dns.query.tcp(query, HOST, port=PORT, timeout=10)
    assert over_udp.rcode() == over_tcp.rcode(), name
    assert over_udp.flags & dns.flags.AA, name
    return over_udp, over_tcp


def texts(message):
    return sorted(item.to_text() for answer in message.answer for item in answer)


for answer in ask("web.service.mesh", "A"):
    assert texts(answer) == ["127.0.9.1", "127.0.9.2"], answer
for answer in ask("_web._tcp.service.consul", "SRV", use_edns=0, payload=1232):
    assert answer.edns == 0 and len(answer.answer[0]) == 2, answer
    assert len(answer.additional) == 2, answer
    for record in answer.answer[0]:
        [found] = texts(ask(record.target, "A")[0])
        assert found in ("127.0.9.1", "127.0.9.2"), found
for answer in ask("host-9.node.mesh", "ANY"):
    assert answer.rcode() == dns.rcode.NXDOMAIN
    assert answer.authority[0].rdtype == dns.rdatatype.SOA
for answer in ask("web.service.mesh", "AAAA"):
    assert answer.rcode() == dns.rcode.NOERROR and not answer.answer
for answer in ask("mesh", "SOA"):
    assert answer.answer[0][0].mname.to_text() == "ns.mesh."
for answer in ask(dns.reversename.from_address("127.0.9.2"), "PTR"):
    assert texts(answer) == ["web.service.dc1.mesh."], answer
for answer in ask("both.query.mesh", "A"):
    assert texts(answer) == ["127.0.9.1", "127.0.9.2"], answer
    assert answer.answer[0].ttl == 7, answer
for answer in ask("none.query.mesh", "A"):
    assert answer.rcode() == dns.rcode.NXDOMAIN

# As programs use it.
resolver = dns.resolver.Resolver(configure=False)
resolver.nameservers, resolver.port = [HOST], PORT
assert len(resolver.resolve("web.service.mesh", "A")) == 2
print("content")
