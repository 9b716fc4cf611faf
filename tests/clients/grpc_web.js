// gRPC-Web as browsers speak it: connect-web, over fetch. Messages are StringValue, which it knows.
//
//   grpc_web.js PORT
'use strict';
const assert = require('node:assert');
const { ConnectError, Code, createClient } = require('@connectrpc/connect');
const { createGrpcWebTransport } = require('@connectrpc/connect-web');
const { StringValueSchema } = require('@bufbuild/protobuf/wkt');

const service = { kind: 'service', typeName: 's', name: 's', methods: [], method: {} };
for (const [name, methodKind] of [['One', 'unary'], ['Many', 'server_streaming']]) {
  const localName = name.toLowerCase();
  const method = {
    kind: 'rpc', name, localName, parent: service, methodKind, input: StringValueSchema,
    output: StringValueSchema, idempotency: 0, deprecated: false,
  };
  service.methods.push(method);
  service.method[localName] = method;
}

async function main() {
  const transport = createGrpcWebTransport({ baseUrl: `http://127.0.0.1:${process.argv[2]}` });
  const client = createClient(service, transport);
  let trailers;
  const options = { timeoutMs: 20000, onTrailer: (these) => (trailers = these) };
  const said = 'ä'.repeat(50000);
  assert.equal((await client.one({ value: said }, options)).value, said);
  assert.equal(trailers.get('x-kind'), 'One');
  const heard = [];
  for await (const { value } of client.many({ value: 'many' }, options)) heard.push(value);
  assert.deepEqual(heard, Array(100).fill('many'));
  for (const [value, code, message] of [
    ['fail', Code.NotFound, 'no such thing: ä'],
    ['late', Code.DeadlineExceeded, null],
  ]) {
    const failed = await client.one({ value }, { timeoutMs: value === 'late' ? 500 : 20000 }).catch((error) => error);
    assert.ok(failed instanceof ConnectError, `${failed}`);
    assert.equal(failed.code, code);
    if (message) assert.equal(failed.rawMessage, message);
  }
  const broken = (async () => {
    for await (const { value } of client.many({ value: 'broken' }, options)) heard.push(value);
  })();
  const failed = await broken.catch((error) => error);
  assert.equal(failed.code, Code.ResourceExhausted);
  assert.equal(heard.filter((it) => it === 'broken').length, 3);
  console.log('connect-web agrees');
}

main();
