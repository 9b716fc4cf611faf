// The readings of Node's http server at its most lenient, one JSON line for each request.
const { appendFileSync } = require('fs');
const http = require('http');

const [port, log] = process.argv.slice(2);
const attempt = (what, fallback) => {
  try { return what(); } catch { return fallback; }
};

function note(request, body) {
  const raw = request.url.split('?')[0];
  const paths = [
    raw,
    attempt(() => decodeURIComponent(raw), raw),
    attempt(() => new URL(request.url, 'http://web').pathname, raw),
  ];
  const fields = {};
  for (let at = 0; at < request.rawHeaders.length; at += 2) {
    const name = request.rawHeaders[at].toLowerCase();
    (fields[name] ||= []).push(request.rawHeaders[at + 1]);
  }
  for (const [name, value] of Object.entries(request.headers)) {
    if (fields[name] && typeof value === 'string') fields[name].push(value);
  }
  appendFileSync(log, JSON.stringify({ method: request.method, paths, fields, body }) + '\n');
}

const options = { insecureHTTPParser: true, maxHeaderSize: 131072, keepAliveTimeout: 60000 };
const server = http.createServer(options, (request, response) => {
  const pieces = [];
  request.on('data', (piece) => pieces.push(piece));
  request.on('error', () => {});
  request.on('end', () => {
    note(request, Buffer.concat(pieces).toString('latin1'));
    response.setHeader('content-length', '2');
    response.end('ok');
  });
});
for (const event of ['upgrade', 'connect']) {
  server.on(event, (request, socket) => {
    note(request, '');
    socket.end('HTTP/1.1 400 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n');
  });
}
server.listen(Number(port), '127.0.0.1');
