// Node's own TLS server as a peer of Q-TLS: node server.mjs '{"cert": "FILE", "key": "FILE", …}'
//
// Options: cert, key, ca, requestCert, groups, alpn (list). Prints {"listening": PORT}, then one JSON object for each
// connection. Answers an HTTP request with its path, and any other line with the same line.
import { readFileSync } from 'node:fs';
import { createServer } from 'node:tls';

const options = JSON.parse(process.argv[2]);
const server = createServer(
  {
    cert: readFileSync(options.cert),
    key: readFileSync(options.key),
    ca: options.ca && readFileSync(options.ca),
    requestCert: options.requestCert ?? false,
    rejectUnauthorized: options.requestCert ?? false,
    ecdhCurve: options.groups ?? 'auto',
    ALPNProtocols: options.alpn,
    minVersion: 'TLSv1.3',
    enableTrace: true,
  },
  (socket) => {
    console.log(
      JSON.stringify({
        version: socket.getProtocol(),
        suite: socket.getCipher().standardName,
        alpn: socket.alpnProtocol || null,
        resumed: socket.isSessionReused(),
        server_name: socket.servername || null,
        peer: socket.getPeerX509Certificate()?.subject,
      }),
    );
    socket.setTimeout(20_000, () => socket.destroy());
    socket.on('error', (error) => console.error(`node server: ${error.message}`));
    let received = '';
    socket.on('data', (data) => {
      received += data;
      const line = received.split('\n', 1)[0];
      if (line.length === received.length) return;
      const http = /^(\w+ \S+) HTTP\/1.1\r$/.exec(line);
      if (http && !received.includes('\r\n\r\n')) return;
      const body = http ? `${http[1]}\n` : `${line}\n`;
      const head = `HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\nConnection: close\r\n\r\n`;
      socket.end(http ? head + body : body);
    });
  },
);
server.on('tlsClientError', (error) => console.error(`node server: ${error.message}`));
server.listen(0, '127.0.0.1', () => console.log(JSON.stringify({ listening: server.address().port })));
