// Node's own TLS client as a peer of Q-TLS: node client.mjs '{"port": 8443, "ca": "FILE", …}'
//
// Options: host, port, servername, ca, cert, key, groups, alpn (list), get (a path: one HTTP/1.1 request), connections
// (a second one offers the session of the first). Prints one JSON object for each connection.
import { readFileSync } from 'node:fs';
import { connect } from 'node:tls';

const options = JSON.parse(process.argv[2]);
const settings = {
  host: options.host ?? '127.0.0.1',
  port: options.port,
  servername: options.servername ?? 'localhost',
  ca: readFileSync(options.ca),
  cert: options.cert && readFileSync(options.cert),
  key: options.key && readFileSync(options.key),
  ecdhCurve: options.groups ?? 'auto',
  ALPNProtocols: options.alpn,
  minVersion: 'TLSv1.3',
  enableTrace: true,
};

let session;
for (let connection = 0; connection < (options.connections ?? 1); connection++) {
  session = await exchange({ ...settings, session });
}

// One connection; resolves with the session ticket that the server sent, if it did.
function exchange(config) {
  return new Promise((resolve, reject) => {
    const socket = connect(config);
    let ticket;
    let received = '';
    let facts;
    socket.setTimeout(20_000, () => socket.destroy(new Error('nothing happened for 20 seconds')));
    socket.on('error', reject);
    socket.on('session', (value) => (ticket = value));
    socket.on('secureConnect', () => {
      facts = {
        version: socket.getProtocol(),
        suite: socket.getCipher().standardName,
        alpn: socket.alpnProtocol || null,
        resumed: socket.isSessionReused(),
        authorized: socket.authorized,
        peer: socket.getPeerX509Certificate()?.subject,
      };
      const request = `GET ${options.get} HTTP/1.1\r\nHost: ${config.servername}\r\nConnection: close\r\n\r\n`;
      // The server closes: after the response, or when it has sent the line back.
      socket.write(options.get ? request : 'hello\n');
    });
    socket.on('data', (data) => (received += data));
    socket.on('close', (failed) => {
      if (failed) return;
      const body = options.get ? received.slice(received.indexOf('\r\n\r\n') + 4) : received;
      console.log(JSON.stringify({ ...facts, body }));
      resolve(ticket);
    });
  });
}
