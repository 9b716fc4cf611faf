// A page that talks to its own server over WebSocket, fetch and server-sent events, and the server of it.
//
//   browser.js PORT
//
// The page's last resource is answered when the page has said how it went, so a browser that waits until
// all is loaded shows the outcome.
'use strict';
const http = require('node:http');
const { WebSocketServer } = require('ws');

const [, , port] = process.argv;

async function talks() {
  const check = (holds, what) => {
    if (!holds) throw new Error(what);
  };
  const next = (target, event) =>
    new Promise((resolve, reject) => {
      target.addEventListener(event, resolve, { once: true });
      target.addEventListener('error', () => reject(new Error(`${event} did not come`)), { once: true });
    });
  const socket = new WebSocket(`ws://${location.host}/chat`, ['other', 'chat']);
  socket.binaryType = 'arraybuffer';
  await next(socket, 'open');
  check(socket.protocol === 'other', 'the first protocol was not taken');
  check(socket.extensions.includes('permessage-deflate'), 'nothing was compressed');
  for (const said of ['text ä', 'x'.repeat(200000)]) {
    const heard = next(socket, 'message');
    socket.send(said);
    check((await heard).data === said, 'another text came back');
  }
  const bytes = Uint8Array.from({ length: 300000 }, (_, at) => at % 251);
  const heard = next(socket, 'message');
  socket.send(bytes);
  const back = new Uint8Array((await heard).data);
  check(back.length === bytes.length && back.every((byte, at) => byte === at % 251), 'other bytes came back');
  const closed = next(socket, 'close');
  socket.close(4000, 'enough');
  check((await closed).code === 4000, 'it was closed in another way');
  const answer = await fetch('/body', { method: 'POST', body: bytes });
  check((await answer.text()) === 'POST 300000', 'the body was another');
  const events = new EventSource('/events');
  check((await next(events, 'message')).data === 'first', 'another event came');
  check((await next(events, 'message')).data === 'second', 'another event came');
  events.close();
}

const PAGE = `<!doctype html><title>page</title><p id="outcome">waiting</p><script>
${talks}
const late = new Promise((_, reject) => setTimeout(() => reject(new Error('too late')), 15000));
Promise.race([talks(), late]).then(() => 'the browser agrees', (error) => 'failed: ' + error.message).then((outcome) => {
  document.getElementById('outcome').textContent = outcome;
  fetch('/said');
});
</script><img src="/wait" alt="">`;

let end = () => {};
const said = () => end();
const server = http.createServer((request, response) => {
  const answers = {
    '/': () => response.setHeader('content-type', 'text/html; charset=utf-8').end(PAGE),
    '/said': () => {
      response.end();
      said();
    },
    '/wait': () => {
      end = () => response.writeHead(204).end();
    },
    '/events': () => {
      response.setHeader('content-type', 'text/event-stream').write('data: first\n\n');
      setImmediate(() => response.write('data: second\n\n'));
    },
    '/body': () => {
      let length = 0;
      request.on('data', (part) => (length += part.length));
      request.on('end', () => response.end(`${request.method} ${length}`));
    },
  };
  (answers[request.url] || (() => response.writeHead(404).end()))();
});
const sockets = new WebSocketServer({ server, perMessageDeflate: { threshold: 0 } });
sockets.on('connection', (socket) => {
  socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }));
});
server.listen(Number(port), '127.0.0.1');
