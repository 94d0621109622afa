// One end of WebSocket connections, driven by JSON lines: commands on standard input, events on standard output.
//
//   node peer.mjs client URL SUBPROTOCOL DEFLATE     DEFLATE is what ws takes as perMessageDeflate: false or an object
//   node peer.mjs server SUBPROTOCOL DEFLATE
//
// Commands: {do: "send", data, binary, final}, {do: "ping", data}, {do: "close", code, reason}.
// Events: listening, open, message, pong, close, error.  Binary data goes in base64 both ways.
import { createInterface } from "node:readline";
import { WebSocket, WebSocketServer } from "ws";

const [role, ...rest] = process.argv.slice(2);
const perMessageDeflate = JSON.parse(rest.at(-1));
const tell = (event, fields = {}) => process.stdout.write(JSON.stringify({ event, ...fields }) + "\n");
let socket = null;

function drive(webSocket, extensions) {
  socket = webSocket;
  socket.on("message", (data, binary) =>
    tell("message", { binary, data: data.toString(binary ? "base64" : "utf8") }));
  socket.on("pong", (data) => tell("pong", { data: data.toString("base64") }));
  socket.on("close", (code, reason) => tell("close", { code, reason: reason.toString() }));
  socket.on("error", (error) => tell("error", { message: error.message }));
  tell("open", { subprotocol: socket.protocol, extensions });
}

if (role === "client") {
  const client = new WebSocket(rest[0], [rest[1]], { perMessageDeflate, maxPayload: 0 });
  let extensions = "";
  client.on("upgrade", (response) => { extensions = response.headers["sec-websocket-extensions"] ?? ""; });
  client.on("open", () => drive(client, extensions));
  client.on("error", (error) => { if (socket === null) tell("error", { message: error.message }); });
} else {
  const server = new WebSocketServer({ host: "127.0.0.1", port: 0, perMessageDeflate, maxPayload: 0,
    handleProtocols: (offered) => offered.has(rest[0]) ? rest[0] : false });
  let extensions = "";
  server.on("headers", (headers) => {
    const found = headers.find((line) => line.toLowerCase().startsWith("sec-websocket-extensions:"));
    extensions = found ? found.slice(found.indexOf(":") + 1).trim() : "";
  });
  server.on("connection", (webSocket) => drive(webSocket, extensions));
  server.on("listening", () => tell("listening", { port: server.address().port }));
}

const commands = {
  send: ({ data, binary, final }) =>
    socket.send(binary ? Buffer.from(data, "base64") : data, { binary, fin: final }),
  ping: ({ data }) => socket.ping(Buffer.from(data, "base64")),
  close: ({ code, reason }) => socket.close(code, reason),
};
const lines = createInterface({ input: process.stdin });
lines.on("line", (line) => { const command = JSON.parse(line); commands[command.do](command); });
lines.on("close", () => process.exit());
