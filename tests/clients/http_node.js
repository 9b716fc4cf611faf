// Node's HTTP client and server, its HTTP/2, and ws from npm, at both ends of two proxies.
//
//   http_node.js serve PORT      HTTP/1.1 and WebSocket
//   http_node.js serve2 PORT     HTTP/2 that offers extended CONNECT
//   http_node.js call PORT       to the first
//   http_node.js call2 PORT      to the second
'use strict';
const assert = require('node:assert');
const http = require('node:http');
const http2 = require('node:http2');
const { once } = require('node:events');

const LIMIT_MS = 30000;
const [, , what, port] = process.argv;

function serve() {
  const { WebSocketServer } = require('ws');
  const server = http.createServer((request, response) => {
    const parts = [];
    request.on('data', (part) => parts.push(part));
    request.on('end', () => {
      const length = Buffer.concat(parts).length;
      if (request.url === '/hints') response.writeEarlyHints({ link: '</style.css>; rel=preload' });
      response.setHeader('seen', `${request.httpVersion} ${request.headers['x-forwarded-proto']}`);
      if (request.url === '/trailers') {
        response.writeHead(200, { trailer: 'x-sum', 'transfer-encoding': 'chunked' });
        response.write('body');
        response.addTrailers({ 'x-sum': '42' });
        return response.end();
      }
      response.end(`${request.method} ${length} ${request.trailers['x-more'] || ''}`);
    });
  });
  const sockets = new WebSocketServer({
    server,
    perMessageDeflate: { threshold: 0 },
    handleProtocols: (offered) => [...offered][0],
  });
  sockets.on('connection', (socket, request) => {
    if (request.url === '/close') return socket.close(4001, 'as asked');
    socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }));
  });
  server.listen(Number(port), '127.0.0.1');
}

function serve2() {
  const server = http2.createServer({ settings: { enableConnectProtocol: true } });
  server.on('stream', (stream, headers) => {
    if (headers[':method'] !== 'CONNECT') {
      stream.respond({ ':status': 200, via: headers[':path'] }, { waitForTrailers: true });
      stream.on('wantTrailers', () => stream.sendTrailers({ 'x-sum': '42' }));
      return stream.end('body');
    }
    stream.respond({ ':status': 200, asked: `${headers[':protocol']} ${headers[':path']}` });
    stream.pipe(stream);
  });
  server.listen(Number(port), '127.0.0.1');
}

const ask = (agent, options, body) =>
  new Promise((resolve, reject) => {
    const request = http.request({ port, host: '127.0.0.1', agent, ...options }, (response) => {
      let text = '';
      response.on('data', (part) => (text += part));
      response.on('end', () => resolve({ request, response, text }));
    });
    request.on('error', reject);
    if (options.hints) request.on('information', (hint) => options.hints.push(hint));
    request.end(body);
  });

async function keepsConnections() {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  const ports = new Set();
  for (let number = 0; number < 50; number += 1) {
    const { request, text } = await ask(agent, { path: `/${number}`, method: 'POST' }, 'x'.repeat(number));
    assert.equal(text, `POST ${number} `);
    ports.add(request.socket.localPort);
  }
  assert.equal(ports.size, 1, 'one connection for all');
  const hints = [];
  const { response } = await ask(agent, { path: '/hints', hints });
  assert.equal(response.statusCode, 200);
  assert.deepEqual(hints.map((hint) => [hint.statusCode, hint.headers.link]), [[103, '</style.css>; rel=preload']]);
  const trailed = await ask(agent, { path: '/trailers', headers: { te: 'trailers' } });
  assert.equal(trailed.response.trailers['x-sum'], '42');
  assert.equal(trailed.response.headers.seen, '1.1 http');
  const chunked = http.request({ port, agent, method: 'PUT', headers: { trailer: 'x-more' } });
  chunked.addTrailers({ 'x-more': 'yes' });
  chunked.write('some');
  chunked.end();
  const [answer] = await once(chunked, 'response');
  let text = '';
  for await (const part of answer) text += part;
  assert.equal(text, 'PUT 4 yes');
  agent.destroy();
}

async function speaksHttp2(path) {
  const session = http2.connect(`http://127.0.0.1:${port}`);
  const all = Array.from({ length: 40 }, async () => {
    const stream = session.request({ ':path': path, te: 'trailers' });
    let trailers = {};
    stream.on('trailers', (these) => (trailers = these));
    let text = '';
    for await (const part of stream) text += part;
    assert.equal(text, 'body');
    assert.equal(trailers['x-sum'], '42');
  });
  await Promise.all(all);
  session.close();
}

/// Says and hears over a socket of ws.
async function converses(socket) {
  const next = async () => {
    const [data, isBinary] = await once(socket, 'message');
    return isBinary ? data : data.toString();
  };
  for (const said of ['', 'text ä', 'x'.repeat(100000)]) {
    socket.send(said);
    assert.equal(await next(), said);
  }
  const bytes = Buffer.from(Array.from({ length: 300000 }, (_, at) => at % 251));
  socket.send(bytes);
  assert.ok((await next()).equals(bytes));
  socket.send('in ', { fin: false });
  socket.send('three ', { fin: false });
  socket.send('parts', { fin: true });
  assert.equal(await next(), 'in three parts');
  const pong = once(socket, 'pong');
  socket.ping('are you there');
  assert.equal((await pong)[0].toString(), 'are you there');
}

async function speaksWebSocket() {
  const { WebSocket } = require('ws');
  for (const perMessageDeflate of [false, { threshold: 0 }]) {
    const socket = new WebSocket(`ws://127.0.0.1:${port}/chat`, ['chat', 'other'], { perMessageDeflate });
    await once(socket, 'open');
    assert.equal(socket.protocol, 'chat');
    assert.equal(socket.extensions.includes('permessage-deflate'), perMessageDeflate !== false);
    await converses(socket);
    socket.close(4000, 'enough');
    const [code, reason] = await once(socket, 'close');
    assert.deepEqual([code, reason.toString()], [4000, 'enough']);
  }
  const closed = new WebSocket(`ws://127.0.0.1:${port}/close`);
  const [code, reason] = await once(closed, 'close');
  assert.deepEqual([code, reason.toString()], [4001, 'as asked']);
}

/// WebSocket over HTTP/2: what ws makes of frames, over a stream of Node's.
async function speaksWebSocketOverHttp2() {
  const { Sender, Receiver } = require('ws');
  const session = http2.connect(`http://127.0.0.1:${port}`);
  const [settings] = await once(session, 'remoteSettings');
  assert.equal(settings.enableConnectProtocol, true);
  const stream = session.request({
    ':method': 'CONNECT', ':protocol': 'websocket', ':path': '/chat', ':scheme': 'http',
    ':authority': 'web', 'sec-websocket-version': '13', 'sec-websocket-protocol': 'chat',
  });
  const [headers] = await once(stream, 'response');
  assert.equal(headers[':status'], 200);
  assert.equal(headers['sec-websocket-protocol'], 'chat');
  const [sender, receiver] = [new Sender(stream, {}), new Receiver({ isServer: false })];
  stream.pipe(receiver);
  const said = 'y'.repeat(200000);
  for (const text of ['hello', said]) {
    const heard = once(receiver, 'message');
    sender.send(text, { binary: false, mask: true, fin: true, compress: false });
    assert.equal((await heard)[0].toString(), text);
  }
  const concluded = once(receiver, 'conclude');
  sender.close(4002, 'over', true);
  assert.equal((await concluded)[0], 4002);
  session.destroy();
}

async function tunnelsOverHttp2() {
  const session = http2.connect(`http://127.0.0.1:${port}`);
  await once(session, 'remoteSettings');
  const stream = session.request({
    ':method': 'CONNECT', ':protocol': 'websocket', ':path': '/chat', ':scheme': 'http', ':authority': 'web',
  });
  const [headers] = await once(stream, 'response');
  assert.equal(headers.asked, 'websocket /chat');
  const said = Buffer.alloc(2000000, 'z');
  stream.end(said);
  const parts = [];
  for await (const part of stream) parts.push(part);
  assert.ok(Buffer.concat(parts).equals(said));
  session.close();
}

async function main() {
  setTimeout(() => { throw new Error('too late'); }, LIMIT_MS).unref();
  if (what === 'call') {
    await keepsConnections();
    await speaksHttp2('/trailers');
    await speaksWebSocket();
    await speaksWebSocketOverHttp2();
    console.log('Node and ws agree');
  } else {
    await speaksHttp2('/');
    await tunnelsOverHttp2();
    console.log('Node over HTTP/2 agrees');
  }
  process.exit(0);
}

if (what === 'serve') serve();
else if (what === 'serve2') serve2();
else main();
