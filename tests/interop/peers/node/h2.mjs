// Node's own HTTP/2 client as a peer of Q-TLS: node h2.mjs '{"port": 8443, "ca": "FILE", "get": "/path"}'
//
// Makes one request, which needn't have an end soon, and prints a line of JSON for each thing that happens: `response`,
// `goaway` with its code, `end` with the number of bytes, and `closed`.
import { readFileSync } from 'node:fs';
import { connect } from 'node:http2';

const options = JSON.parse(process.argv[2]);
const print = (event) => console.log(JSON.stringify(event));
const session = connect(`https://localhost:${options.port}`, {
  ca: readFileSync(options.ca),
  lookup: (_, settings, done) => done(null, settings.all ? [{ address: '127.0.0.1', family: 4 }] : '127.0.0.1', 4),
});
session.setTimeout(20_000, () => session.destroy(new Error('nothing happened for 20 seconds')));
session.on('error', (error) => {
  console.error(error);
  process.exitCode = 1;
});
session.on('goaway', (code) => print({ event: 'goaway', code }));
session.on('close', () => print({ event: 'closed' }));
const request = session.request({ ':path': options.get });
let received = 0;
request.on('response', (headers) => print({ event: 'response', status: headers[':status'] }));
request.on('data', (data) => (received += data.length));
request.on('end', () => print({ event: 'end', bytes: received }));
request.end();
