// Sends COUNT events with @fluent-org/logger: node send.js OPTIONS COUNT TAG (OPTIONS: the client's, as JSON).
// Ends with 0 only if every event was delivered (with acks: acknowledged).
import logger from "@fluent-org/logger";

const [options, count, tag] = process.argv.slice(2);
const client = new logger.FluentClient(tag, JSON.parse(options));
const sent = [];
for (let i = 0; i < Number(count); i++) {
  sent.push(client.emit({ i, text: "snow ☃", nested: { list: [1, 2.5, null] } }));
}
await client.flush();
await Promise.all(sent);
await client.disconnect();
