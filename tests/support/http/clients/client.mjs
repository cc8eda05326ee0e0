// Node's own client of HTTP/2, at the real program: see test_http2_clients.py.
//
//   node client.mjs PORT CA
//
// Prints what it saw as JSON.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import http2 from "node:http2";

const [port, ca] = process.argv.slice(2);
const session = http2.connect(`https://a.test:${port}`, {
  ca: readFileSync(ca),
  lookup: (name, options, found) =>
    options.all ? found(null, [{ address: "127.0.0.1", family: 4 }]) : found(null, "127.0.0.1", 4),
});
let failure = null;
session.on("error", (error) => (failure = String(error)));

function ask(fields, body, trailers) {
  return new Promise((resolve, reject) => {
    const stream = session.request(fields, {
      endStream: body === undefined,
      waitForTrailers: trailers !== undefined,
    });
    const seen = { fields: null, trailers: null, body: [] };
    if (trailers) stream.on("wantTrailers", () => stream.sendTrailers(trailers));
    stream.on("response", (fields) => (seen.fields = fields));
    stream.on("trailers", (fields) => (seen.trailers = fields));
    stream.on("data", (piece) => seen.body.push(piece));
    stream.on("error", reject);
    stream.on("end", () => resolve({ ...seen, body: Buffer.concat(seen.body) }));
    if (body !== undefined) stream.end(body);
  });
}

const digest = (data) => createHash("sha256").update(data).digest("hex");
const saw = {};
const large = Buffer.alloc(5_000_000, "node");

const pages = await Promise.all(
  Array.from({ length: 100 }, (_, n) => ask({ ":path": `/app/page-${n}` })),
);
saw.pages = pages.filter((page, n) => page.body.toString() === `/app/page-${n}`).length;

const post = await ask({ ":method": "POST", ":path": "/app/digest" }, large);
saw.upload = post.body.toString() === digest(large);

const download = await ask({ ":path": "/app/bytes?size=20000000" });
saw.download = digest(download.body);

const trailed = await ask({ ":method": "POST", ":path": "/app/trailers" }, "trailed", { "x-sum": "1" });
saw.trailers = `${trailed.body} ${trailed.trailers["x-digest"]}`;

saw.head = (await ask({ ":method": "HEAD", ":path": "/" })).fields["content-length"];
saw.range = (await ask({ ":path": "/", range: "bytes=3-7" })).body.toString();

// Given up in the middle; the connection goes on.
saw.cancelled = await new Promise((resolve) => {
  const stream = session.request({ ":path": "/app/events?count=100000&pause=0.01" });
  stream.once("data", () => stream.close(http2.constants.NGHTTP2_CANCEL));
  stream.on("close", () => resolve(stream.rstCode));
});
saw.ping = await new Promise((resolve) => session.ping((error) => resolve(error === null)));
saw.after = (await ask({ ":path": "/app/after" })).body.toString();
saw.streams = session.remoteSettings.maxConcurrentStreams;
saw.failure = failure;
session.close();
console.log(JSON.stringify(saw));
