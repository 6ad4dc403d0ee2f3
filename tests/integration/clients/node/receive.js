// A server of @fluent-org/logger: node receive.js OPTIONS (the server's, as JSON; tls: {cert, key} as file names).
// Prints its port, then [tag, record] of every entry, a line of JSON each.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
const { FluentServer } = createRequire(import.meta.url)("@fluent-org/logger");

const { tls, ...options } = JSON.parse(process.argv[2]);
if (tls) {
  options.tlsOptions = { cert: readFileSync(tls.cert), key: readFileSync(tls.key) };
}
const server = new FluentServer({ listenOptions: { host: "127.0.0.1", port: 0 }, ...options });
server.on("entry", (tag, time, record) => console.log(JSON.stringify([tag, record])));
await server.listen();
console.log(server.port);
